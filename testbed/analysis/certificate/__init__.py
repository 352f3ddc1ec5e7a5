"""The learning-rate certificate of a study: whether its learning rates are right, and what they cost. Never imports torch."""
