"""The page, its figures and tables, and the sentences that tell a forecast and a verdict. Never imports torch."""
