"""Memory of a run: estimated, measured, divided into passes, and what happens where it runs out."""
