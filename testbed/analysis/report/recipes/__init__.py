"""The page that compares recipes by their laws."""
