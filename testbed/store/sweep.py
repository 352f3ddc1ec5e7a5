"""A sweep's folder: the configuration with its hash, the plan, the runs, the seal, the verdict."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from testbed.config import Config, differences, read_config
from testbed.errors import FolderError, SealError
from testbed.files import write_json, write_text
from testbed.records import Forecast, RunSpec, Verdict, as_json
from testbed.store.lock import hold
from testbed.store.run import RunFolder


class SweepFolder:
    """runs/<name>: config.toml, plan.json, runs/, forecast.json, verdict.json, points.csv, report/."""

    def __init__(self, path: Path, config: Config, specs: tuple[RunSpec, ...]) -> None:
        self.path, self.config, self.specs = path, config, specs

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether `path` is a sweep's folder."""
        return (path / "config.toml").exists()

    @classmethod
    def create(cls, path: Path, config: Config, specs: tuple[RunSpec, ...]) -> SweepFolder:
        """The folder of this configuration: made anew, or the one that is there if it is of the same.

        Another configuration or plan in the folder is refused, with the differences.
        """
        if cls.exists(path):
            folder = cls.open(path)
            _refuse_changes(folder, config, specs)
            return folder
        if path.exists() and any(entry.name != "plan.json" for entry in path.iterdir()):
            raise FolderError(f"{path}: not empty, and no sweep's folder (no config.toml); give another folder (--out)")
        _write_plan(path, config, specs)
        header = f"# The whole configuration of this sweep, defaults spelt out.\n# sha256 {config.hash()}\n\n"
        write_text(path / "config.toml", header + config.to_toml())
        return cls(path, config, specs)

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """The sweep in `path`; FolderError where there is none or it was changed."""
        if not cls.exists(path):
            raise FolderError(f"{path}: not a sweep's folder (no config.toml); give a folder that testbed run has made")
        config = read_config(path / "config.toml")
        try:
            plan = json.loads((path / "plan.json").read_text())
            specs = tuple(RunSpec.model_validate(spec) for spec in plan["runs"].values())
            recorded = plan["config_hash"]
        except (OSError, ValueError, KeyError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise FolderError(
                f"{path / 'plan.json'}: not a plan ({reason}); start over in another folder (--out)"
            ) from None
        if recorded != config.hash():
            raise FolderError(
                f"{path / 'config.toml'}: changed since the sweep was started (its hash is not that in plan.json); "
                "undo the change, or start another sweep (--out)"
            )
        return cls(path, config, specs)

    def extended(self, specs: tuple[RunSpec, ...]) -> SweepFolder:
        """The same folder with further runs in its plan."""
        with self.owned():
            _write_plan(self.path, self.config, self.specs + specs)
        return SweepFolder(self.path, self.config, self.specs + specs)

    def run(self, spec: RunSpec) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / "runs" / spec.run_id, spec)

    def find(self, run_id: str) -> RunFolder:
        """The folder of the run with this id."""
        for spec in self.specs:
            if spec.run_id == run_id:
                return self.run(spec)
        raise FolderError(f"{self.path}: no run {run_id!r} in the plan; testbed status lists them")

    def of_role(self, role: str) -> tuple[RunSpec, ...]:
        """The runs of this role ("grid", "target" or "tune")."""
        return tuple(spec for spec in self.specs if spec.role == role)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the sweep's lock; FolderError if another launcher has it."""
        message = f"{self.path}: another testbed is running this sweep; wait for it, or stop it and repeat the command"
        with hold(self.path / "lock", message):
            yield

    @property
    def forecast_path(self) -> Path:
        """Where the sealed forecast lies."""
        return self.path / "forecast.json"

    def has_forecast(self) -> bool:
        """Whether a forecast has been sealed."""
        return self.forecast_path.exists()

    def seal(self, forecast: Forecast) -> None:
        """Write the forecast, once."""
        if self.has_forecast():
            raise SealError(
                f"{self.forecast_path}: already sealed, and a sealed forecast is never rewritten; "
                "for another one start another sweep (--out)"
            )
        write_json(self.forecast_path, as_json(forecast))
        self.forecast_path.chmod(0o444)

    def forecast(self) -> Forecast:
        """The sealed forecast; SealError where there is none or it was changed."""
        path = self.forecast_path
        if not path.exists():
            raise SealError(f"{path}: no forecast is sealed yet; seal it with testbed predict {self.path}")
        try:
            forecast = Forecast.model_validate_json(path.read_text())
        except ValidationError as error:
            problem = error.errors()[0]
            raise SealError(
                f"{path}: not a forecast ({'.'.join(map(str, problem['loc']))}: {problem['msg']})"
            ) from None
        if forecast.digest != forecast.computed_digest():
            raise SealError(
                f"{path}: changed after it was sealed (its digest does not fit); it can no longer be judged"
            )
        return forecast

    def write_verdict(self, verdict: Verdict) -> None:
        """Keep the verdict; it may be taken again, since it follows from the seal and the runs."""
        write_json(self.path / "verdict.json", as_json(verdict))

    def verdict(self) -> Verdict | None:
        """The verdict, if it was given."""
        path = self.path / "verdict.json"
        return Verdict.model_validate_json(path.read_text()) if path.exists() else None


def _write_plan(path: Path, config: Config, specs: tuple[RunSpec, ...]) -> None:
    runs = {spec.run_id: as_json(spec) for spec in specs}
    write_json(path / "plan.json", {"config_hash": config.hash(), "runs": runs})


def _refuse_changes(folder: SweepFolder, config: Config, specs: tuple[RunSpec, ...]) -> None:
    changed = differences(folder.config.identity(), config.identity())
    if changed:
        raise FolderError(
            f"{folder.path}: holds a sweep of another configuration; it differs in {'; '.join(changed)}. "
            "Undo the change, or start another sweep (--out, or another name)"
        )
    old = {spec.run_id: as_json(spec) for spec in folder.specs}
    new = {spec.run_id: as_json(spec) for spec in specs}
    if old != new:
        first = differences(next(iter(old.values())), next(iter(new.values())))
        raise FolderError(
            f"{folder.path}: the same configuration now gives other runs ({'; '.join(first) or 'another list'}): the data or "
            "the package has changed; start another sweep (--out)"
        )
