"""What a checkpoint has to be for its runs to go on from it, beyond being whole: a state that they go through.

A digest tells damage; it does not tell a checkpoint that was written by something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.train.checkpoints.checkpoint import Cursor
from testbed.training.train.divergence import Looks

_GENERATORS = ("generator/cpu", "generator/cuda")


def cursor_fault(cursor: Cursor, specs: Sequence[RunSpec]) -> str | None:
    """Why the pack of these runs never stands there; None where it does."""
    spec = specs[0]
    if not 0 <= cursor.horizon < len(spec.horizons):
        return f"horizon {cursor.horizon} of {len(spec.horizons)}"
    horizon = spec.horizons[cursor.horizon]
    # a trunk may stand before the last branch point: where its checkpoints were damaged it is trained again
    first, last = (horizon.branch_step, horizon.steps) if cursor.in_branch else (0, horizon.branch_step)
    if not first <= cursor.step <= last:
        return f"step {cursor.step}, accepted: {first} to {last}"
    spent = cursor.step + sum(h.steps - h.branch_step for h in spec.horizons[: cursor.horizon])
    counts = (cursor.tokens, cursor.spent_steps, cursor.spent_tokens)
    if counts != (cursor.step * spec.batch_tokens, spent, spent * spec.batch_tokens):
        return f"tokens or steps that do not follow from step {cursor.step}"
    if not (
        0 <= cursor.loss_count <= cursor.step and math.isfinite(cursor.spent_seconds) and cursor.spent_seconds >= 0
    ):
        return "a negative count or time"
    if not _are_looks(cursor.looks, len(specs)):
        return f"losses that are not those of {len(specs)} runs"
    known = {str(run): str for run in range(len(specs))}
    if not isinstance(cursor.diverged, dict) or any(type(r) is not known.get(k) for k, r in cursor.diverged.items()):
        return "diverged runs that are not in it"
    if cursor.rows is not None and not (
        type(cursor.rows) is int and 1 <= cursor.rows <= spec.batch_tokens // spec.shape.seq_len
    ):
        return f"passes of {cursor.rows} windows"
    return None


def _are_looks(looks: Looks, runs: int) -> bool:
    if type(looks.count) is not int or looks.count < 0:
        return False
    for seen, kind in ((looks.sums, float), (looks.above, int)):
        if not isinstance(seen, list) or len(seen) not in (0, runs) or any(type(each) is not kind for each in seen):
            return False
    return True


def tensors_fault(tensors: Mapping[str, Tensor], layout: Mapping[str, tuple[torch.Size, torch.dtype]]) -> str | None:
    """Why these are not the tensors of a learner of this layout, with the generators' states; None where they are."""
    generator = torch.get_rng_state()
    wanted = dict(layout) | {"generator/cpu": (generator.shape, generator.dtype)}
    others = [name for name in tensors if name not in wanted and name not in _GENERATORS]
    missing = [name for name in wanted if name not in tensors]
    if others or missing:
        return f"{'no' if missing else 'a foreign'} tensor {(missing or others)[0][:100]!r}"
    for name, (shape, dtype) in wanted.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (shape, dtype):
            return f"{name} is {found.dtype} {list(found.shape)}, not {dtype} {list(shape)}"
    return None
