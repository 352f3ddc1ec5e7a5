"""The page and figures of a fit."""
