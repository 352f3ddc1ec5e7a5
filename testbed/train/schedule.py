"""The learning rate as a pure function of the step: warm-up, constant trunk, linear cooldown.

Warmup-stable-decay (arXiv:2404.06395, section 4); a cooldown branched from the constant part gives
the loss of a run of that length (arXiv:2405.18392).
"""

from __future__ import annotations

from testbed.records import Horizon


def lr_factor(step: int, warmup_steps: int, cooldown: Horizon | None) -> float:
    """Share of the peak rate at optimiser step `step` (from 0); `cooldown` is the branch, None on the trunk.

    The decay is linear and would reach 0 one step after the horizon's last.
    """
    factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if cooldown is not None and step >= cooldown.branch_step:
        factor *= 1.0 - (step - cooldown.branch_step + 1) / (cooldown.steps - cooldown.branch_step + 1)
    return factor


def branch_eval_steps(horizon: Horizon, count: int) -> tuple[int, ...]:
    """Steps of a branch at which its loss is logged: `count` inside, evenly spaced, and its end."""
    length = horizon.steps - horizon.branch_step
    inside = {horizon.branch_step + round(length * (i + 1) / (count + 1)) for i in range(count)}
    return tuple(sorted((inside | {horizon.steps}) - {horizon.branch_step}))
