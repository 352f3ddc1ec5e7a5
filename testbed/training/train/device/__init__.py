"""Devices: which one is used, CUDA graphs and compiled networks, recomputed blocks."""
