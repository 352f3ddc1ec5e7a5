"""Is the learning-rate rule right on a study's own rungs: brackets at its corners, and the certificate made of them."""

from testbed.study.tune.brackets import FACTORS, Brackets
from testbed.study.tune.tuning import Tuning, check

__all__ = ["FACTORS", "Brackets", "Tuning", "check"]
