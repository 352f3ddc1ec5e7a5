"""Sentences and figures of a learning-rate certificate."""
