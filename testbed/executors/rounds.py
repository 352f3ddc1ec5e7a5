"""All runs of a role to their end, shared out among all who launched the sweep."""

from __future__ import annotations

import time
from collections.abc import Sequence

from testbed.executors.executor import Executor, Watcher
from testbed.records import RunSpec
from testbed.store import Lookout, SweepFolder
from testbed.sweep import Pack, packs

_LOOK = 2.0  # seconds between looks at runs that others train


def train_all(executor: Executor, sweep: SweepFolder, specs: Sequence[RunSpec], watcher: Watcher) -> None:
    """Train every run that is neither done nor failed; returns when all are, whoever trained them.

    Packs that a living process trains, on this machine or another, are left to it; those whose owner
    dies are taken over. So the same command, given on several machines, trains the sweep together.
    """
    lookout = Lookout(sweep.config.execution.lease_seconds)
    while waiting := _unended(sweep, specs):
        free = [pack for pack in waiting if not any(lookout.lives(sweep.run(spec).path) for spec in pack)]
        if not free or all(outcome.ending == "held" for outcome in executor.run(sweep, free, watcher)):
            time.sleep(_LOOK)


def _unended(sweep: SweepFolder, specs: Sequence[RunSpec]) -> list[Pack]:
    """The packs with a run that has not ended."""
    return [pack for pack in packs(specs) if any(not sweep.run(spec).ended() for spec in pack)]
