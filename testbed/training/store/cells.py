"""The gaps in a sweep's grid: runs that are unfinished, failed, diverged or replaced by a second try."""

from __future__ import annotations

from testbed.records import MissingCell, Retried, RunSpec
from testbed.training.store.sweep_folder import SweepFolder


def unfinished(folder: SweepFolder, role: str) -> list[RunSpec]:
    """The runs of this role that are neither done nor failed."""
    return [spec for spec in folder.of_role(role) if not folder.run(spec).ended()]


def failed(folder: SweepFolder, role: str) -> dict[str, str]:
    """Why runs of this role failed, by run id; runs that a second try replaces are left out."""
    replaced = {again.retry_of for again in retried(folder)}
    reasons = {
        spec.run_id: failure.reason
        for spec in folder.of_role(role)
        if spec.run_id not in replaced
        and (failure := folder.run(spec).failure()) is not None
        and folder.run(spec).done() is None
    }
    tried = {spec.retry_of: spec for spec in folder.of_role(role) if spec.run_id in reasons and spec.retry_of}
    for run_id, again in tried.items():  # a run and its second try are one failure
        assert run_id is not None
        reasons[run_id] += f" (as well as at {again.lr:g}: {reasons.pop(again.run_id)})"
    return reasons


def diverged(folder: SweepFolder, role: str) -> set[str]:
    """The ids of the runs of this role that failed because their loss diverged."""
    runs = map(folder.run, folder.of_role(role))
    return {run.spec.run_id for run in runs if (failure := run.failure()) and failure.diverged}


def missing_cells(folder: SweepFolder) -> tuple[MissingCell, ...]:
    """The cells of the grid's failed runs: every horizon of each, since no loss of a failed run can be trusted."""
    reasons = failed(folder, "grid")
    return tuple(
        MissingCell(
            run=spec.run_id,
            width=design.width,
            n_params_non_embedding=spec.counts.n_params_non_embedding,
            n_params_total=spec.counts.n_params_total,
            tokens=design.tokens,
            init_seed=spec.init_seed,
            data_seed=spec.data_seed,
            reason=reasons[spec.run_id],
            cell=dict(design.cell),
        )
        for spec in folder.of_role("grid")
        if spec.run_id in reasons
        for design in spec.designs
    )


def retried(folder: SweepFolder) -> tuple[Retried, ...]:
    """The finished runs that replace diverged ones."""
    return tuple(
        Retried(run=spec.run_id, retry_of=spec.retry_of, width=spec.shape.width, lr=spec.lr)
        for spec in folder.of_role("grid")
        if spec.retry_of is not None and folder.run(spec).done() is not None
    )
