"""Compares a sweep with its budget: which packs it still pays for, and which not."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.config import Budget
from testbed.training.store.ledger import Entry, Ledger, Spend
from testbed.training.sweep import Pack, cost
from testbed.units import show_count, show_seconds


def affordable(ledger: Ledger, budget: Budget | None, packs: Sequence[Pack]) -> tuple[list[Pack], list[Pack]]:
    """Split the packs into those that the budget pays for to their end, and those that it does not.

    Running packs come first, then those that have started, then the cheapest. So most cells get done, and the
    missing ones are the largest.
    """
    if budget is None:
        return list(packs), []

    def precedence(pack: Pack) -> tuple[bool, bool, float]:
        rows = [ledger.entry(spec) for spec in pack]
        return all(row.state != "running" for row in rows), not any(row.steps for row in rows), cost(pack)

    total, paid, unpaid = ledger.spent, [], []
    for pack in sorted(packs, key=precedence):
        after = total + ledger.cost(map(ledger.entry, pack))
        if excess(after, budget):
            unpaid.append(pack)
        else:
            total = after
            paid.append(pack)
    return paid, unpaid


def excess(spend: Spend, budget: Budget) -> bool:
    """Whether `spend` exceeds one of the budget's limits."""
    return any(spent > limit for spent, limit, _ in _accounts(spend, budget))


def account(spend: Spend, budget: Budget) -> str:
    """What was spent of each limit, as "2.98T of 3T FLOPs"."""
    return ", ".join(words for _, _, words in _accounts(spend, budget))


def missing(ledger: Ledger, packs: Sequence[Pack]) -> str:
    """The packs and what they still cost, in words, by role and width."""
    rungs: dict[tuple[str, int], list[Entry]] = {}
    for pack in packs:
        for spec in pack:
            rungs.setdefault((spec.role, spec.shape.width), []).append(ledger.entry(spec))
    return "; ".join(
        f"{role} width {width}: {len(rows)} run{'s' * (len(rows) > 1)} ({show_count(ledger.cost(rows).flops)} FLOPs, about "
        f"{show_seconds(ledger.cost(rows).device_seconds)} of a device)"
        for (role, width), rows in rungs.items()
    )


def _accounts(spend: Spend, budget: Budget) -> list[tuple[float, float, str]]:
    """For each limit of the budget: what was spent, the limit, and both in words."""
    found: list[tuple[float, float, str]] = []
    if budget.flops is not None:
        words = f"{show_count(spend.flops)} of {show_count(budget.flops)} FLOPs"
        found.append((spend.flops, budget.flops, words))
    if budget.tokens is not None:
        words = f"{show_count(spend.tokens)} of {show_count(budget.tokens)} tokens"
        found.append((spend.tokens, budget.tokens, words))
    if budget.device_minutes is not None:
        minutes = spend.device_seconds / 60
        found.append((minutes, budget.device_minutes, f"{minutes:.3g} of {budget.device_minutes:g} device minutes"))
    return found
