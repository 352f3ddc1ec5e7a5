"""What of a sweep's grid a fit has to do without, and which runs in it stand in for others."""

from __future__ import annotations

from testbed.records import MissingCell, Retried, RunSpec
from testbed.training.store.sweep_folder import SweepFolder


def unfinished(folder: SweepFolder, role: str) -> list[RunSpec]:
    """The runs of this role that are neither done nor failed."""
    return [spec for spec in folder.of_role(role) if not folder.run(spec).ended()]


def failed(folder: SweepFolder, role: str) -> dict[str, str]:
    """The reasons of the runs of this role that failed and that no second try stands in for, by run id."""
    replaced = {again.retry_of for again in retried(folder)}
    reasons = {
        spec.run_id: failure.reason
        for spec in folder.of_role(role)
        if spec.run_id not in replaced
        and (failure := folder.run(spec).failure()) is not None
        and folder.run(spec).done() is None
    }
    tried = {spec.retry_of: spec for spec in folder.of_role(role) if spec.run_id in reasons and spec.retry_of}
    for run_id, again in tried.items():  # one failure, told once
        assert run_id is not None
        reasons[run_id] += f" (as well as at {again.lr:g}: {reasons.pop(again.run_id)})"
    return reasons


def diverged(folder: SweepFolder, role: str) -> set[str]:
    """The runs of this role whose loss was why they failed, by id."""
    runs = map(folder.run, folder.of_role(role))
    return {run.spec.run_id for run in runs if (failure := run.failure()) and failure.diverged}


def missing_cells(folder: SweepFolder) -> tuple[MissingCell, ...]:
    """The cells of the grid's failed runs: all horizons of each, since a run that failed has no end to be trusted."""
    reasons = failed(folder, "grid")
    return tuple(
        MissingCell(
            run=spec.run_id,
            width=spec.shape.width,
            n_params_non_embedding=spec.counts.n_params_non_embedding,
            n_params_total=spec.counts.n_params_total,
            tokens=horizon.tokens,
            init_seed=spec.init_seed,
            data_seed=spec.data_seed,
            reason=reasons[spec.run_id],
        )
        for spec in folder.of_role("grid")
        if spec.run_id in reasons
        for horizon in spec.horizons
    )


def retried(folder: SweepFolder) -> tuple[Retried, ...]:
    """The finished runs that stand in for those that diverged."""
    return tuple(
        Retried(run=spec.run_id, retry_of=spec.retry_of, width=spec.shape.width, lr=spec.lr)
        for spec in folder.of_role("grid")
        if spec.retry_of is not None and folder.run(spec).done() is not None
    )
