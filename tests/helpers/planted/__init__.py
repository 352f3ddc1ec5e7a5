"""A truth for every law of the library: parameters and a design that shows them."""

from __future__ import annotations

from .design import Planted, grid, noisy
from .families import PLANTED

__all__ = ["PLANTED", "Planted", "grid", "noisy"]
