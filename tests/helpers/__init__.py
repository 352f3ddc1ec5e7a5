"""What several test files use, by noun; no test file imports another."""
