"""Tests the learning-rate rule on a study's own rungs: trains brackets at its corners and makes the certificate."""

from testbed.study.tune.brackets import FACTORS, Brackets
from testbed.study.tune.tuning import Tuning, check

__all__ = ["FACTORS", "Brackets", "Tuning", "check"]
