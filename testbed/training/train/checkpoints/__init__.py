"""Checkpoints: their files, which of them are kept, and checks before one is resumed."""
