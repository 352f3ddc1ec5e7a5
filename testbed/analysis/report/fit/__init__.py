"""The page of a fit, and its figures."""
