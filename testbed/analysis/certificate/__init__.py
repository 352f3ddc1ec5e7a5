"""The learning-rate certificate of a study: how much of its losses its learning rates can explain. Never imports torch."""
