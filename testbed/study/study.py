"""A study from its configuration to its page: the one place where training and analysis meet.

Each step can be called alone and repeated: finished work is kept, and the target cannot start before its forecast is
sealed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from testbed.analysis.certificate.certificate import read_certificate
from testbed.analysis.fit import Fit
from testbed.analysis.forecast import Circumstances, check_remaining, fit_laws, judge, make_forecast
from testbed.analysis.report.study.contents import Contents
from testbed.analysis.report.study.writing import write_page
from testbed.config import Config
from testbed.errors import ConfigError, FolderError, RunFailed, SealError, TableError
from testbed.files import stay_inside
from testbed.points import write_table
from testbed.records import Forecast, MissingCell, Role, RunSpec, TargetFacts, Verdict
from testbed.study.preparation import (
    device_and_workers,
    engines,
    require_same_data,
    settle,
    timetable,
    varied_columns,
)
from testbed.training.data.description import said
from testbed.training.executors import Watcher, make_executor, settle_packs, tracked, train_all
from testbed.training.store import SweepFolder, now
from testbed.training.store.cells import diverged, failed, missing_cells, retried, unfinished
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import design_warnings, retries
from testbed.version import versions


class Study:
    """A sweep's folder and the steps of the loop; every result is a file in the folder.

    >>> import tempfile, testbed
    >>> config = testbed.load_config("quick_synthetic", ["grid.widths=[16, 24, 32]", "train.pack=2"])
    >>> study = testbed.Study.create(config, Path(tempfile.mkdtemp(), "example"))
    >>> len(study.grid), len(study.target)
    (9, 2)
    >>> study.points().empty  # nothing is trained yet
    True
    >>> study.seal()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    testbed.errors.FolderError: ...: 9 of 9 grid runs are not done (...); finish them with testbed train ...
    """

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._fits: dict[str, Fit] = {}

    @classmethod
    def create(cls, config: Config, path: Path | None = None) -> Study:
        """Open the data, plan every run, and make the folder (runs/NAME by default); starts no run.

        A folder that holds the same plan is opened instead. See the class for an example.

        Raises:
            ConfigError: The plan or its forecast is impossible.
            DataError: The data cannot be read or does not hold enough.
            FolderError: The folder holds another sweep, or cannot be written.
        """
        path = path or config.home
        config = SweepFolder.rules_at(path, config)
        source, made = settle(config, path)
        seconds = None
        if not SweepFolder.exists(path):
            made = engines(config, made, measure=True).fitting()
            settled = settle_packs(made, config.train)
            if settled is None or (config.budget and config.budget.device_minutes):
                measured = timetable(config, made)
                settled, seconds = measured.plan, measured.run_seconds
            made = settled
        folder = SweepFolder.create(path, config, made.runs)
        folder.keep_said(said(source))
        if seconds is not None:
            folder.keep_timetable(seconds)
        return cls(folder)

    @classmethod
    def open(cls, path: Path) -> Study:
        """Open a study's folder.

        Raises:
            FolderError: There is no study in it, or a newer testbed wrote it.
        """
        return cls(SweepFolder.open(path))

    def executed_with(self, device: str | None, workers: int | None, executor: str | None = None) -> Study:
        """The same study with another device, number of workers or executor; None keeps the configuration's."""
        changes = {"device": device, "workers": workers, "executor": executor}
        execution = self.folder.config.execution.model_copy(update={k: v for k, v in changes.items() if v is not None})
        config = self.folder.config.model_copy(update={"execution": execution})
        return Study(SweepFolder(self.folder.path, config, self.folder.specs))

    def workers(self, specs: Sequence[RunSpec]) -> int:
        """The number of worker processes that train these runs."""
        return device_and_workers(self.folder.config, specs)[1]

    @property
    def grid(self) -> tuple[RunSpec, ...]:
        """The grid's runs, to which the laws are fitted."""
        return self.folder.of_role("grid")

    @property
    def target(self) -> tuple[RunSpec, ...]:
        """The target's runs, one per seed, whose mean loss is forecast."""
        return self.folder.of_role("target")

    def train(self, role: Role, watcher: Watcher, retry_failed: bool = False) -> None:
        """Train the runs of this role that are not done, or resume them from their checkpoints.

        Raises:
            SealError: The target's forecast is not sealed yet.
            DataError: The data are not those of the plan; no run has been started.
            RunFailed: Runs failed; raised once all have ended, with every reason.
            BudgetReached: The sweep's budget is spent.
        """
        specs = self._sealed_target() if role == "target" else self.folder.of_role(role)
        require_same_data(self.folder, specs)
        if retry_failed:
            for spec in specs:
                self.folder.run(spec).forget_failure()
        with tracked(watcher, self.folder) as watching:
            train_all(make_executor(self.folder.config.execution), self.folder, specs, watching)
            if role == "grid":
                self._retry_diverged(watching)
        self._require_none_failed(role)

    def _retry_diverged(self, watcher: Watcher) -> None:
        """Train each diverged run once more at lower learning rates, if the configuration asks for it."""
        factor = self.folder.config.train.retry_lr
        again = retries(self.grid, diverged(self.folder, "grid"), factor) if factor is not None else ()
        if again:
            self.folder = self.folder.extended(again)
            train_all(make_executor(self.folder.config.execution), self.folder, again, watcher)

    def points(self) -> pd.DataFrame:
        """The points table: one row per logged loss of each finished run (see points.POINTS_COLUMNS)."""
        return sweep_points(self.folder)

    def fit(self, without_failed: bool = False) -> dict[str, Fit]:
        """The configuration's laws fitted to the annealed losses of the grid, by name; fitted once and kept.

        The cells of failed runs are left out if asked for, or if the sealed forecast was made without them.

        Raises:
            FolderError: Runs of the grid are not done.
            RunFailed: Runs of the grid failed, and their cells are not left out.
        """
        if not self._fits:
            self._require_ended("grid")
            left_out = {cell.run for cell in self._left_out()}
            if not (without_failed or left_out):
                self._require_none_failed("grid")
            settings, name = self.folder.config.forecast, self.folder.config.name
            points = self.points()
            points = points[~points["run"].isin(left_out)]
            if left_out or missing_cells(self.folder):
                check_remaining(settings, points, str(self.folder.path))
            self._fits = fit_laws(points, settings, name)
        return self._fits

    def _left_out(self) -> tuple[MissingCell, ...]:
        """The cells that the sealed forecast left out."""
        return self.folder.forecast().missing if self.folder.has_forecast() else ()

    def seal(self, without_failed: bool = False) -> Forecast:
        """Write the target's forecast, once; later calls return the one that was sealed.

        Raises:
            FolderError, RunFailed: As `fit`.
            ConfigError: The configuration has no target.
        """
        if self.folder.has_forecast():
            return self.folder.forecast()
        config, fits = self.folder.config, self.fit(without_failed)
        circumstances = Circumstances(
            study=config.name,
            config_hash=config.hash(),
            sealed_at=now(),
            after_the_fact=any(self.folder.run(spec).evals() for spec in self._target()),
            versions=versions("numpy", "scipy", "pandas"),
            missing=missing_cells(self.folder),
            retried=retried(self.folder),
        )
        forecast = make_forecast(self.points(), fits, self._target_facts(), config.forecast, circumstances)
        try:
            self.folder.seal(forecast)
        except SealError:  # another launch of the same sweep was first
            return self.folder.forecast()
        return forecast

    def judge(self) -> Verdict:
        """Compare the sealed forecast with the target's losses, and write the verdict.

        Raises:
            SealError: There is no forecast, or it was changed after it was sealed.
            FolderError: Runs of the target are not done.
            RunFailed: Runs of the target failed.
        """
        forecast = self.folder.forecast()
        self._require_ended("target")
        self._require_none_failed("target")
        verdict = judge(forecast, self.points(), self._target()[0].data.entropy, now())
        self.folder.write_verdict(verdict)
        return verdict

    def report(self) -> Path:
        """Write the page and its figures from the results so far, and points.csv; returns the page's path."""
        write_table(self.points(), self.folder.path / "points.csv")
        return write_page(stay_inside(self.folder.path, self.folder.path / "report"), self._contents())

    def _contents(self) -> Contents:
        folder = self.folder
        left_out, lacking = self._left_out(), missing_cells(folder)
        complete = not unfinished(folder, "grid") and bool(left_out or not lacking)
        fits, unfitted = self._fits_or_reason() if complete else ({}, None)
        return Contents(
            name=folder.config.name,
            config_toml=folder.config.to_toml(),
            config_hash=folder.config.hash(),
            specs=folder.specs,
            states={spec.run_id: folder.run(spec).state() for spec in folder.specs},
            failures={spec.run_id: f.reason for spec in folder.specs if (f := folder.run(spec).failure())},
            warnings=design_warnings(self.grid, self.target, folder.config.forecast.laws),
            points=self.points(),
            fits=fits,
            unfitted=unfitted,
            n_column=folder.config.forecast.n,
            forecast=folder.forecast() if folder.has_forecast() else None,
            verdict=folder.verdict(),
            provenance=tuple(p for spec in folder.specs for p in folder.run(spec).provenance()),
            certificate=read_certificate(folder.path, folder.config.hash()),
            missing=left_out or lacking,
            retried=retried(folder),
            data=folder.said(),
            notices=tuple(f"{spec.run_id}: {n.message}" for spec in folder.specs for n in folder.run(spec).notices()),
        )

    def _fits_or_reason(self) -> tuple[dict[str, Fit], str | None]:
        """The fitted laws; where they cannot be fitted (one width, one run) none, and why."""
        try:
            return self.fit(), None
        except TableError as reason:
            return {}, str(reason)

    def _require_ended(self, role: Role) -> None:
        specs, waiting = self.folder.of_role(role), [spec.run_id for spec in unfinished(self.folder, role)]
        if waiting:
            raise FolderError(
                f"{self.folder.path}: {len(waiting)} of {len(specs)} {role} runs are not done ({', '.join(waiting[:3])}"
                f"{', ...' if len(waiting) > 3 else ''}); finish them with testbed train {self.folder.path}"
            )

    def _require_none_failed(self, role: Role) -> None:
        reasons = failed(self.folder, role)
        if role == "tune":  # a bracket may diverge: that is its result, not a failure
            found = diverged(self.folder, role)
            reasons = {run_id: reason for run_id, reason in reasons.items() if run_id not in found}
        if reasons:
            count = len(self.folder.of_role(role))
            left_out = ", or leave their cells out with --without-failed" if role == "grid" else ""
            lines = [f"  {run_id}: {reason}" for run_id, reason in reasons.items()]
            raise RunFailed(
                "\n".join([f"{self.folder.path}: {len(reasons)} of {count} {role} runs failed:", *lines])
                + f"\nFix the cause and repeat the command with --retry-failed{left_out}"
            )

    def _target(self) -> tuple[RunSpec, ...]:
        if not self.target:
            raise ConfigError(f"{self.folder.path}: the configuration has no [target]; add its width and tokens")
        return self.target

    def _sealed_target(self) -> tuple[RunSpec, ...]:
        specs = self._target()
        self.folder.forecast()  # SealError where there is none
        return specs

    def _target_facts(self) -> TargetFacts:
        specs = self._target()
        first = specs[0]
        return TargetFacts(
            runs=tuple(spec.run_id for spec in specs),
            width=first.shape.width,
            n_params_non_embedding=first.counts.n_params_non_embedding,
            n_params_total=first.counts.n_params_total,
            tokens=first.horizons[-1].tokens,
            flops=first.horizons[-1].tokens * first.counts.flops_per_token,
            columns=varied_columns(first),
        )
