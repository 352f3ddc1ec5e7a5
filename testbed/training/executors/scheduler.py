"""Trains all runs of a role, shared among every process that launched the sweep."""

from __future__ import annotations

import time
from collections.abc import Sequence

from testbed.errors import BudgetReached
from testbed.records import RunSpec
from testbed.training.executors.executor import Executor, Watcher
from testbed.training.store import OwnerMonitor, SweepFolder
from testbed.training.store.ledger import Ledger
from testbed.training.store.spending import account, affordable, missing
from testbed.training.sweep import Pack, packs

_POLL = 2.0  # seconds between looks at runs that others train


def train_all(executor: Executor, sweep: SweepFolder, specs: Sequence[RunSpec], watcher: Watcher) -> None:
    """Train every run that is neither done nor failed; returns when all are, whoever trained them.

    Packs that a living process trains, on this machine or another, are left to it; those whose owner has
    died are taken over, and what an earlier launch left in a cluster's queue is adopted. So the same
    command, given on several machines, trains the sweep together.

    Raises:
        BudgetReached: The budget does not pay for any of the packs that are left.
    """
    owners = OwnerMonitor(sweep.config.execution.lease_seconds)
    while waiting := [pack for pack in packs(specs) if any(not sweep.run(spec).ended() for spec in pack)]:
        paid = _paid(sweep, waiting)
        ours = executor.adopts(sweep, paid)
        free = [pack for pack in paid if pack in ours or not any(owners.alive(sweep.run(s).path) for s in pack)]
        if not free or not any(outcome.ending in ("done", "failed") for outcome in executor.run(sweep, free, watcher)):
            time.sleep(_POLL)


def _paid(sweep: SweepFolder, waiting: list[Pack]) -> list[Pack]:
    """Those of the packs that the budget still pays for."""
    budget = sweep.budget()
    if budget is None:
        return waiting
    ledger = Ledger.of(sweep)
    paid, unpaid = affordable(ledger, budget, waiting)
    if not paid:
        raise BudgetReached(
            f"{sweep.path}: stopped at the budget, {account(ledger.spent, budget)} spent. Missing: {missing(ledger, unpaid)}. "
            "Raise the budget in the configuration's table [budget], or with --set budget.KEY=VALUE, and repeat the command: "
            "it continues from here"
        )
    return paid
