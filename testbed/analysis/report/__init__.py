"""Pages, figures, tables and sentences. Never imports torch."""
