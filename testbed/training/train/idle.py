"""Learners whose runs have ended, kept for runs alike since their step is captured and compiled.

Only as long as nobody needs their memory.
"""

from __future__ import annotations

from testbed.training.train.learner import Learner

_MOST = 16
_kept: dict[str, Learner] = {}  # by what their runs are alike in; the oldest first


def keep(likeness: str, learner: Learner) -> None:
    """Keep a learner for runs of this likeness, instead of the oldest one where there are many."""
    if len(_kept) == _MOST:
        del _kept[next(iter(_kept))]
    _kept[likeness] = learner


def take(likeness: str) -> Learner | None:
    """The learner kept for runs of this likeness, kept no longer; None where there is none."""
    return _kept.pop(likeness, None)


def any_kept() -> bool:
    """Whether learners are idle."""
    return bool(_kept)


def let_go() -> None:
    """Keep none of them any longer."""
    _kept.clear()
