"""Trains the brackets of a configuration in a folder of their own, and makes the certificate from them and the study."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from testbed.analysis.certificate.certificate import BracketFindings, Certificate, GridFindings, read_certificate
from testbed.analysis.certificate.collapse import collapse
from testbed.analysis.certificate.coordinate_check import judge_coordinates
from testbed.analysis.certificate.corners import judge_corners
from testbed.analysis.certificate.learning_rates import excess_at_rungs, shifts
from testbed.analysis.certificate.outliers import find_outliers
from testbed.config import Config, differences
from testbed.errors import FolderError
from testbed.records import RunSpec
from testbed.study.preparation import design_of, timetable
from testbed.study.study import Study
from testbed.study.tune.brackets import Brackets, factor_of
from testbed.study.tune.coordinate_run import coordinates
from testbed.training.data import TokenSource, open_source
from testbed.training.executors import Watcher, settle_packs
from testbed.training.store import SweepFolder, now
from testbed.training.sweep import Plan, plan


class Tuning:
    """A folder of brackets; its runs are kept, resumed and never overwritten, like those of a sweep."""

    def __init__(self, folder: SweepFolder, source: TokenSource, made: Plan) -> None:
        """`made` is the plan of the study whose grid is bracketed."""
        self.folder, self.source, self.plan = folder, source, made

    @classmethod
    def create(cls, config: Config, path: Path, brackets: Brackets, study: Path | None = None) -> Tuning:
        """Plan the brackets and make their folder, or open the existing one and add the runs that it lacks.

        `study` is where the configuration's study is or would be.

        Raises:
            ConfigError: The brackets do not fit the grid.
            FolderError: The folder holds something else, or brackets of another configuration or other data.
        """
        config = SweepFolder.rules_at(path, config)
        source = open_source(config.data)
        chosen = design_of(config, source.facts, study)
        made, specs = plan(config, source.facts, chosen), brackets.specs(config, source.facts, chosen)
        if not SweepFolder.exists(path):
            return cls(SweepFolder.create(path, config, _packed(specs, config)), source, made)
        folder = SweepFolder.open(path)
        changed = differences(folder.config.identity(), config.identity())
        if changed:
            raise FolderError(
                f"{path}: holds brackets of another configuration; it differs in {'; '.join(changed)}. "
                "Undo the change, or give another folder (--out)"
            )
        if len(folder.of_role("tune")) < len(folder.specs):
            raise FolderError(f"{path}: holds a sweep, no brackets; give another folder (--out)")
        if folder.specs[0].data.fingerprint != source.facts.fingerprint:
            raise FolderError(
                f"{path}: holds brackets trained on other tokens than {config.data.source} now gives; restore the data, or "
                "give another folder (--out)"
            )
        there = {spec.planned_id for spec in folder.specs}
        lacking = tuple(spec for spec in specs if spec.planned_id not in there)
        folder = SweepFolder(path, config, folder.specs)
        return cls(folder.extended(_packed(lacking, config)) if lacking else folder, source, made)

    @property
    def flops(self) -> int:
        """Training FLOPs of all brackets."""
        return sum(spec.flops for spec in self.folder.specs)

    @property
    def share(self) -> float:
        """The FLOPs of the brackets divided by those of the grid."""
        return self.flops / sum(spec.flops for spec in self.plan.grid)

    def train(self, watcher: Watcher, retry_failed: bool = False) -> None:
        """Train the brackets that are not done; one that diverges is a result, not a failure.

        Raises:
            RunFailed: Runs failed for another reason.
        """
        Study(self.folder).train("tune", watcher, retry_failed)

    def table(self) -> pd.DataFrame:
        """One row a run and horizon (see `certificate.corners.judge_corners`); a loss is nan where the run diverged."""
        rows = []
        for spec in self.folder.specs:
            run = self.folder.run(spec)
            losses = {e.horizon: e.loss for e in run.evals() if e.phase == "annealed"}
            diverged = run.state() == "failed"
            rows += [
                {
                    "width": spec.shape.width,
                    "n_params_non_embedding": spec.counts.n_params_non_embedding,
                    "tokens": horizon.tokens,
                    "batch_tokens": spec.batch_tokens,
                    "factor": factor_of(spec, self.folder.config),
                    "init_seed": spec.init_seed,
                    "data_seed": spec.data_seed,
                    "loss": math.nan if diverged else losses[horizon.tokens],
                }
                for horizon in spec.horizons
            ]
        return pd.DataFrame(rows)

    def certificate(self, study: Study | None) -> Certificate:
        """The certificate from brackets and coordinate check, and from the study's points if its grid is done."""
        config, made = self.folder.config, self.plan
        level = config.forecast.level
        judged = judge_corners(self.table(), level)
        own = [pair for pair in judged if pair[0].batch_tokens == made.grid[0].batch_tokens]
        places = dict.fromkeys((s.role, s.shape.width, h.tokens) for s in made.runs for h in s.horizons)
        trend, rungs = excess_at_rungs(own, list(places), level) or (None, ())
        brackets = BracketFindings(
            corners=tuple(corner for corner, _ in judged),
            trend=trend,
            rungs=rungs,
            runs=len(self.folder.specs),
            flops=self.flops,
        )
        transfer = judge_coordinates(coordinates(self.folder, made.grid[0], self.source))
        parts = {"brackets": brackets, "transfer": transfer}
        certificate = _without_parts(config, made.grid[0]).model_copy(update=parts)
        return checked(certificate, study) if study is not None and _complete(study) else certificate


def checked(certificate: Certificate, study: Study) -> Certificate:
    """The certificate with the checks of the study's finished grid: shifts of its laws, collapse, outliers."""
    points, config = study.points(), study.folder.config
    target = next(iter(study.target), None)
    at = None
    if target is not None:
        at = (float(getattr(target.counts, config.forecast.n)), float(target.horizons[-1].tokens))
    fits, settings, rungs = study.fit(), config.forecast, certificate.rungs
    grid = GridFindings(
        shifts=shifts(points, fits, rungs, settings, config.name, at) if rungs else (),
        collapse=collapse(points),
        outliers=find_outliers(points, fits, settings),
    )
    return certificate.model_copy(update={"made_at": now(), "grid": grid})


def check(study: Study) -> Certificate:
    """The study's certificate with the checks of its finished grid made again, or a new one from the grid alone.

    Raises:
        FolderError: The grid is not done.
    """
    config, grid = study.folder.config, study.grid
    study.fit()  # FolderError where the grid is not done
    known = read_certificate(study.folder.path, config.hash())
    return checked(known or _without_parts(config, grid[0]), study)


def _without_parts(config: Config, spec: RunSpec) -> Certificate:
    """A certificate of the configuration in which nothing is found yet; `spec` is a run of its grid."""
    return Certificate(
        study=config.name,
        config_hash=config.hash(),
        made_at=now(),
        level=config.forecast.level,
        batch_tokens=spec.batch_tokens,
        lr=config.train.lr,
    )


def _complete(study: Study) -> bool:
    return all(study.folder.run(spec).state() == "done" for spec in study.grid)


def _packed(specs: tuple[RunSpec, ...], config: Config) -> tuple[RunSpec, ...]:
    """The same runs with their packs: the configuration's, or those that a measurement chooses."""
    made = Plan(specs, (), ())
    return (settle_packs(made, config.train) or timetable(config, made).plan).grid
