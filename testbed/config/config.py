"""The whole configuration of a study, with the rules that involve more than one of its tables.

Names of families, sources and laws are looked up, and refused with the list of known ones, by the packages that
own them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import Field, model_validator

from testbed.config.budget import Budget
from testbed.config.data import Data
from testbed.config.execution import Execution
from testbed.config.forecast_settings import ForecastSettings
from testbed.config.grid import Grid, Target
from testbed.config.identity import Label
from testbed.config.model import Model
from testbed.config.strict import Table
from testbed.config.tracker import Tracker
from testbed.config.train import Train
from testbed.config.values import FolderName
from testbed.config.vary import Cell, axes, cells, merged
from testbed.files import digest
from testbed.registry import names_code


class Config(Table):
    """The configuration of a study. All that decides a result is part of its hash; where and how runs are executed is not."""

    name: FolderName = Field(description="name of the study: letters, digits, dot, dash, underscore")
    data: Data = Field(description="where the tokens come from")
    model: Model = Field(description="the family of models")
    train: Train = Field(description="the training recipe")
    grid: Grid = Field(description="the runs that are fitted")
    target: Target | None = Field(None, description="the larger run that is forecast")
    forecast: ForecastSettings = Field(ForecastSettings(), description="how the forecast is made")
    execution: Annotated[Execution, Label] = Field(Execution(), description="device, workers, checkpoints")
    budget: Annotated[Budget | None, Label] = Field(None, description="what the whole sweep may spend")
    tracker: Annotated[Tracker | None, Label] = Field(None, description="external trackers that show losses")

    @model_validator(mode="after")
    def _batches_are_whole_windows(self) -> Self:
        batch = self.train.batch_tokens
        if batch != "auto" and (batch <= 0 or batch % self.data.seq_len):
            raise ValueError(
                f"train.batch_tokens ({batch}) is a whole number of windows: a multiple of data.seq_len ({self.data.seq_len})"
            )
        return self

    @model_validator(mode="after")
    def _shards_have_processes(self) -> Self:
        target = self.target and self.target.processes
        if self.train.sharded is True and self.train.processes == 1 and not target:
            raise ValueError("train.sharded = true splits a run among several processes: raise train.processes")
        return self

    @model_validator(mode="after")
    def _a_design_has_a_target(self) -> Self:
        if self.grid.design is not None and self.target is None:
            raise ValueError("grid.design is chosen for a target: give [target] its width and tokens")
        return self

    @model_validator(mode="after")
    def _compiled_runs_have_one_process(self) -> Self:
        processes = max(self.train.processes, (self.target and self.target.processes) or 1)
        if self.train.compile is True and processes > 1:
            raise ValueError(
                f"train.compile = true is for runs of one process, and these take {processes}; leave it to auto"
            )
        return self

    @model_validator(mode="after")
    def _axes_have_accepted_values(self) -> Self:
        axes(self.target.at if self.target else {})  # each leaf is a list of values
        for key, values in axes(self.grid.vary).items():
            for value in values:
                self.at({key: value})  # the rules of the key itself
        return self

    @model_validator(mode="after")
    def _widths_are_whole_heads(self) -> Self:
        for width in (*self.grid.widths, *([self.target.width] if self.target else [])):
            if width % self.model.head_size:
                raise ValueError(f"width {width} is not a multiple of model.head_size ({self.model.head_size})")
        return self

    def cells(self, vary: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Every combination of values in `vary` (by default of the grid), by dotted key and as their tables parse them."""
        found = []
        for cell in cells(self.grid.vary if vary is None else vary):
            own = self.at(cell).model_dump()
            found.append({key: reduce(lambda tree, part: tree[part], key.split("."), own) for key in cell})
        return found

    def under(self, rules: Literal[1, 2]) -> Config:
        """The same configuration under the rules of a sweep's format (see `Data.rules`)."""
        return self.model_copy(update={"data": self.data.model_copy(update={"rules": rules})})

    def at(self, cell: Cell) -> Config:
        """The configuration of one cell of the grid, in which nothing varies."""
        tree = self._tree()
        tree["grid"].pop("vary")
        return Config.model_validate(merged(tree, cell)) if cell else self

    @property
    def home(self) -> Path:
        """The folder of the study, unless another one is asked for: runs/NAME in the working directory."""
        return Path("runs") / self.name

    def code(self) -> tuple[str, ...]:
        """The classes outside the package ("package.module:Class") that the configuration names."""
        places = [self.data.source, self.model.family, self.execution.executor]
        places = [name for name in places if "." in name.partition(":")[0]]  # "text:stdlib" names no module
        recipe = (self.train.schedule, *self.train.parts)
        laws = (*self.forecast.laws, *self.forecast.beside)
        return tuple(name for name in (*places, *recipe, *laws) if names_code(name))

    def unread_tables(self) -> dict[str, list[str]]:
        """Tables of components that no cell of the grid uses, [train.prun] for one: with the names that would be read."""
        used = {
            "data": [self.data.source],
            "model": [self.model.family],
            "train": [self.train.schedule, *self.train.parts],
        }
        cells = [*self.cells(), *(self.cells(self.target.at) if self.target else [])]
        for key, value in (pair for cell in cells for pair in cell.items()):
            if key in ("data.source", "model.family", "train.schedule", "train.parts"):
                used[key.partition(".")[0]] += [value] if isinstance(value, str) else value
        found = {}
        for table, names in used.items():
            read = {part for name in names for part in (name.partition(":")[0], name.rpartition(":")[2].lower())}
            for unread in (getattr(self, table).model_extra or {}).keys() - read:
                found[f"{table}.{unread}"] = sorted(read)
        return found

    def hash(self) -> str:
        """SHA-256 of `identity()`, in hexadecimal."""
        return digest(self.identity())

    def to_toml(self) -> str:
        """The configuration as TOML with all defaults; `load_config` reads an equal one back."""
        return tomli_w.dumps(self._tree())

    def _tree(self) -> dict[str, Any]:
        """The fields as JSON values, without those that are null: TOML has none."""
        tree: dict[str, Any] = _without_nulls(self.model_dump(mode="json"))
        return tree


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return value
