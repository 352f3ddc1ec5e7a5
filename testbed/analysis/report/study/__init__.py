"""The page of a study: its figures, tables and sentences."""
