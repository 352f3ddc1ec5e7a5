"""Second tries of diverged runs at lower learning rates."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from testbed.records import Engine, RunSpec


def retries(specs: Sequence[RunSpec], diverged: Collection[str], factor: float) -> tuple[RunSpec, ...]:
    """For each run in `diverged` (by id) the same run at `factor` times its rates, unpacked; tried again only once."""
    return tuple(
        spec.model_copy(
            update={
                "lr": spec.lr * factor,
                "lr_hidden": spec.lr_hidden * factor,
                "engine": spec.engine if spec.engine.pack is None else Engine(pack=1),
                "retry_of": spec.run_id,
            }
        )
        for spec in specs
        if spec.run_id in diverged and spec.retry_of is None
    )
