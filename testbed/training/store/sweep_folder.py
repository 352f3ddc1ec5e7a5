"""A sweep's folder: the configuration with its hash, the plan, the runs, the seal, the verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel, ValidationError

from testbed.config import Budget, Config, differences, read_config
from testbed.errors import DiskError, FolderError, SealError
from testbed.files import create_json, read_bytes, write_json, write_text
from testbed.records import Forecast, RunSpec, Verdict, as_json, format_of, problem, read_record, too_new
from testbed.records.forecast import FORECAST_FORMAT
from testbed.training.store.lock import hold
from testbed.training.store.run_folder import RunFolder

# Of plan.json and what lies beside it; the latest that this version reads. A folder keeps the rules of its format: since 2
# text is split in finer units, and validation windows are no longer chosen by runs of tokens (see Data.rules).
SWEEP_FORMAT = 2


class SweepFolder:
    """runs/<name>: config.toml, plan.json, runs/, forecast.json, verdict.json, points.csv, report/."""

    def __init__(self, path: Path, config: Config, specs: tuple[RunSpec, ...]) -> None:
        self.path, self.config, self.specs = path, config, specs

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether `path` is a sweep's folder."""
        return (path / "config.toml").is_file()

    @classmethod
    def rules_at(cls, path: Path, config: Config) -> Config:
        """`config` under the rules of the sweep's folder at `path`, or as it is where there is none."""
        plan = path / "plan.json"
        return config.under(_read_plan(plan).format) if plan.is_file() else config

    @classmethod
    def create(cls, path: Path, config: Config, specs: tuple[RunSpec, ...]) -> SweepFolder:
        """The sweep's folder at `path`: a new one, or the existing one of the same configuration and runs.

        The engines of the runs are those that an existing folder has settled, even where another process has just
        made it.

        Raises:
            FolderError: The folder holds something else; the message says what differs.
        """
        config = cls.rules_at(path, config)
        if not cls.exists(path):
            if path.exists() and any(entry.name != "plan.json" for entry in path.iterdir()):
                raise FolderError(
                    f"{path}: not empty, and not a sweep's folder (no config.toml); give another folder (--out)"
                )
            try:
                create_json(path / "plan.json", _plan(config, specs))
            except FileExistsError:
                _refuse_foreign(path / "plan.json", config)
            _write_config(path, config)
        folder = cls.open(path)
        _refuse_changes(folder, config, specs)
        if folder.config != config:  # in settings that decide no result: where and how it is executed
            _write_config(path, config)
        return cls(path, config, folder.specs)

    @classmethod
    def open(cls, path: Path) -> SweepFolder:
        """The sweep in `path`; FolderError where there is none or it was changed."""
        if not cls.exists(path):
            raise FolderError(f"{path}: not a sweep's folder (no config.toml); give a folder that testbed run has made")
        plan = _read_plan(path / "plan.json")
        config = read_config(path / "config.toml").under(plan.format)
        if plan.config_hash != config.hash():
            changed = "; ".join(differences(plan.config, config.identity())) if plan.config else "another hash"
            raise FolderError(
                f"{path / 'config.toml'}: changed since the sweep was started ({changed}); undo the change, or start another "
                "sweep (--out)"
            )
        return cls(path, config, tuple(plan.runs.values()))

    def extended(self, specs: tuple[RunSpec, ...]) -> SweepFolder:
        """The same folder, with those of these runs added to its plan that are not in it yet."""
        with self.owned():
            there = _read_plan(self.path / "plan.json")
            every = tuple(
                (there.runs | {spec.run_id: spec for spec in specs if spec.run_id not in there.runs}).values()
            )
            write_json(self.path / "plan.json", _plan(self.config, every))
        return SweepFolder(self.path, self.config, every)

    def run(self, spec: RunSpec) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / "runs" / spec.run_id, spec)

    def find(self, run_id: str) -> RunFolder:
        """The folder of the run with this id."""
        spec = self._by_id.get(run_id)
        if spec is None:
            raise FolderError(f"{self.path}: no run {run_id!r} in the plan; testbed status lists them")
        return self.run(spec)

    @cached_property
    def _by_id(self) -> dict[str, RunSpec]:
        return {spec.run_id: spec for spec in self.specs}

    def of_role(self, role: str) -> tuple[RunSpec, ...]:
        """The runs of this role ("grid", "target" or "tune")."""
        return tuple(spec for spec in self.specs if spec.role == role)

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the lock of the sweep's plan; FolderError if another process holds it."""
        with hold(self.path / "lock", f"{self.path}: another process is changing the plan; repeat the command"):
            yield

    def check_present(self) -> None:
        """Raise DiskError if the folder has vanished, as it does when its disk is unmounted."""
        if not self.exists(self.path):
            raise DiskError(
                f"{self.path}: the sweep's folder has vanished during training; make its disk available again and repeat "
                "the command"
            )

    def budget(self) -> Budget | None:
        """The budget as it stands in the folder now: another launch may have changed it since this one started."""
        self.check_present()
        return read_config(self.path / "config.toml").budget

    def timetable(self) -> dict[str, float]:
        """Estimated seconds of each run (its share of its pack's), by run id; empty where they were not estimated."""
        try:
            return _RunSeconds.model_validate_json(read_bytes(self.path / "timetable.json")).root
        except (OSError, ValueError, FolderError):
            return {}  # they are shown, and decide nothing

    def keep_timetable(self, seconds: Mapping[str, float]) -> None:
        """Keep the estimated seconds of each run, from which the remaining time is computed later."""
        write_json(self.path / "timetable.json", {run_id: round(each, 3) for run_id, each in seconds.items()})

    def keep_said(self, sentences: Sequence[str]) -> None:
        """Keep what is said of the tokens, for the page."""
        if sentences and not (self.path / "data.json").exists():
            write_json(self.path / "data.json", list(sentences))

    def said(self) -> tuple[str, ...]:
        """What `keep_said` has kept; empty where that is nothing."""
        try:
            return _Sentences.model_validate_json(read_bytes(self.path / "data.json")).root
        except (OSError, ValueError, FolderError):
            return ()  # they are shown, and decide nothing

    @property
    def forecast_path(self) -> Path:
        """The file of the sealed forecast."""
        return self.path / "forecast.json"

    def has_forecast(self) -> bool:
        """Whether a forecast has been sealed."""
        return self.forecast_path.exists()

    def seal(self, forecast: Forecast) -> None:
        """Write the forecast; SealError where one is sealed already: of two processes one seals."""
        try:
            create_json(self.forecast_path, as_json(forecast))
        except FileExistsError:
            raise SealError(
                f"{self.forecast_path}: already sealed, and a sealed forecast is never rewritten; "
                "for another one start another sweep (--out)"
            ) from None
        self.forecast_path.chmod(0o444)

    def forecast(self) -> Forecast:
        """The sealed forecast; SealError where there is none or it was changed."""
        path = self.forecast_path
        try:
            content = read_bytes(path)
            forecast = Forecast.model_validate_json(content)
        except FileNotFoundError:
            raise SealError(f"{path}: no forecast is sealed yet; seal it with testbed predict {self.path}") from None
        except ValidationError as error:
            newer = too_new(format_of(content), FORECAST_FORMAT)
            raise SealError(f"{path}: {newer or f'not a forecast ({problem(error)})'}") from None
        if newer := too_new(forecast.format, FORECAST_FORMAT):
            raise SealError(f"{path}: {newer}")
        if forecast.digest != forecast.computed_digest():
            raise SealError(f"{path}: changed after it was sealed (its digest no longer matches); it cannot be judged")
        return forecast

    def write_verdict(self, verdict: Verdict) -> None:
        """Keep the verdict. It may be written again, since it follows from the sealed forecast and the runs."""
        write_json(self.path / "verdict.json", as_json(verdict))

    def verdict(self) -> Verdict | None:
        """The verdict, None where there is none yet."""
        return read_record(self.path / "verdict.json", Verdict)


def _write_config(path: Path, config: Config) -> None:
    header = f"# The whole configuration of this sweep, defaults spelt out.\n# sha256 {config.hash()}\n\n"
    write_text(path / "config.toml", header + config.to_toml())


def _plan(config: Config, specs: tuple[RunSpec, ...]) -> dict[str, Any]:
    runs = {spec.run_id: as_json(spec) for spec in specs}
    return {"format": config.data.rules, "config_hash": config.hash(), "config": config.identity(), "runs": runs}


class _Plan(BaseModel):
    """The content of plan.json; validated in one go, since there may be ten thousand runs."""

    format: Literal[1, 2] = 1
    config_hash: str
    config: dict[str, Any] = {}
    runs: dict[str, RunSpec]


class _RunSeconds(RootModel[dict[str, Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]]]):
    """Seconds by run id."""


class _Sentences(RootModel[tuple[Annotated[str, Field(max_length=10_000)], ...]]):
    """Sentences."""


def _read_plan(path: Path) -> _Plan:
    try:
        content = read_bytes(path)
        plan = _Plan.model_validate_json(content)
    except ValidationError as error:
        reason: object = problem(error)
        newer = too_new(format_of(content), SWEEP_FORMAT)
    except OSError as error:
        reason, newer = error, None
    else:
        changed = next((run_id for run_id, spec in plan.runs.items() if run_id != spec.run_id), None)
        if changed is None and plan.runs:
            return plan
        newer, reason = None, "no runs in it" if changed is None else f"{changed[:100]!r} is not the id of its run"
    if newer:
        raise FolderError(f"{path}: {newer}")
    raise FolderError(f"{path}: not a plan ({reason}); start over in another folder (--out)")


def _refuse_foreign(path: Path, config: Config) -> None:
    """Accept a plan without config.toml if it is of this configuration: another process is making the folder, or died at it."""
    if _read_plan(path).config_hash != config.hash():
        raise FolderError(
            f"{path}: the plan of another configuration, without its config.toml: a command was stopped while it made the "
            "folder, or is making it now; delete the file, or give another folder (--out)"
        )


def _refuse_changes(folder: SweepFolder, config: Config, specs: tuple[RunSpec, ...]) -> None:
    changed = differences(folder.config.identity(), config.identity())
    if changed:
        raise FolderError(
            f"{folder.path}: holds a sweep of another configuration; it differs in {'; '.join(changed)}. "
            "Undo the change, or start another sweep (--out, or another name)"
        )
    old, new = [spec for spec in folder.specs if spec.retry_of is None], list(specs)
    if [spec.planned_id for spec in old] != [spec.planned_id for spec in new]:
        first = differences(old[0].identity() | {"engine": None}, new[0].identity() | {"engine": None})
        raise FolderError(
            f"{folder.path}: the same configuration now gives other runs ({'; '.join(first) or 'another list'}): the data or "
            "the package has changed; start another sweep (--out)"
        )
