"""Checks that an intact checkpoint holds a state that these runs can reach; a digest shows damage, not a foreign author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.train.checkpoints.checkpoint import Cursor

_GENERATORS = ("generator/cpu", "generator/cuda")


def cursor_fault(cursor: Cursor, specs: Sequence[RunSpec]) -> str | None:
    """Why the pack of these runs is never at `cursor`; None where it is."""
    spec, segment = specs[0], cursor.segment(specs[0])
    if segment is None:
        return f"horizon {cursor.horizon} of {len(spec.horizons)}"
    # the trunk may be before its last branch point: it is trained again where its checkpoints were damaged
    first = segment.start if segment.branch else 0
    if not first <= cursor.step <= segment.end:
        return f"step {cursor.step}, accepted: {first} to {segment.end}"
    spent = cursor.step + sum(behind.steps for behind in spec.segments[: cursor.place] if behind.branch)
    counts = (cursor.tokens, cursor.spent_steps, cursor.spent_tokens)
    if counts != (cursor.step * spec.batch_tokens, spent, spent * spec.batch_tokens):
        return f"tokens or steps that do not follow from step {cursor.step}"
    if cursor.loss_count > cursor.step:
        return f"losses of {cursor.loss_count} steps at step {cursor.step}"
    runs = len(specs)
    if cursor.looks.count < 0 or any(len(seen) not in (0, runs) for seen in (cursor.looks.sums, cursor.looks.above)):
        return f"losses that are not those of {runs} runs"
    if not cursor.diverged.keys() <= set(map(str, range(runs))):
        return f"diverged runs that are not among the {runs} of the pack"
    if cursor.rows is not None and cursor.rows > spec.batch_tokens // spec.shape.seq_len:
        return f"passes of {cursor.rows} windows"
    return None


def tensors_fault(tensors: Mapping[str, Tensor], layout: Mapping[str, tuple[torch.Size, torch.dtype]]) -> str | None:
    """Why these are not the tensors of a learner with this layout and the generators' states; None where they are."""
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
