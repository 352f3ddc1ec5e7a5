"""The planted truths of all families of laws."""

from __future__ import annotations

from . import data_laws, downstream, dynamics, kaplan
from .design import Planted

PLANTED: dict[str, Planted] = kaplan.PLANTED | data_laws.PLANTED | downstream.PLANTED | dynamics.PLANTED
