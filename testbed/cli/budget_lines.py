"""A sweep's budget: what is spent, what remains, and how long that takes; as lines and as JSON."""

from __future__ import annotations

from typing import Any

from testbed.cli.output import console
from testbed.config import Budget
from testbed.training.store.ledger import Ledger
from testbed.training.store.spending import account, affordable, missing
from testbed.units import show_count, show_seconds


def budget_json(ledger: Ledger, budget: Budget | None) -> dict[str, Any]:
    """Spent and remaining FLOPs, tokens and device seconds, seconds left, and the runs that the budget does not cover."""
    waiting = [pack for pack, _ in ledger.packs()]
    _, unpaid = affordable(ledger, budget, waiting)
    return {
        "spent": vars(ledger.spent),
        "remaining": vars(ledger.remaining),
        "seconds_left": ledger.seconds_left(ledger.at_work) if ledger.at_work else None,
        "beyond_budget": [spec.run_id for pack in unpaid for spec in pack],
    }


def print_budget(ledger: Ledger, budget: Budget | None) -> None:
    """Print what is spent, what the remaining work needs, and what the budget does not cover."""
    spent, left = ledger.spent, ledger.remaining
    console.say(
        f"spent {show_count(spent.flops)} FLOPs, {show_count(spent.tokens)} tokens, {show_seconds(spent.device_seconds)} of "
        f"devices; {100 * ledger.share:.0f} % of the work is done"
    )
    if left.flops:
        time = (
            f", about {show_seconds(ledger.seconds_left(ledger.at_work))} with those at work" if ledger.at_work else ""
        )
        console.say(
            f"left  {show_count(left.flops)} FLOPs, {show_count(left.tokens)} tokens, about "
            f"{show_seconds(left.device_seconds)} of devices{time}"
        )
    if budget is not None:
        _, unpaid = affordable(ledger, budget, [pack for pack, _ in ledger.packs()])
        console.say(f"budget: {account(spent, budget)}")
        if unpaid:
            console.say(f"beyond the budget: {missing(ledger, unpaid)}")
