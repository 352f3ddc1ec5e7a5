"""The stages of gpu_check.py: a function each, which writes what it finds."""
