"""The learning-rate certificate of a study: how much of its losses its learning rates can explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from testbed.analysis.certificate.collapse import Collapse
from testbed.analysis.certificate.coordinate_check import Transfer
from testbed.analysis.certificate.corners import Corner
from testbed.analysis.certificate.learning_rates import OptimumTrend, RungExcess, Shift
from testbed.analysis.certificate.outliers import Outliers
from testbed.errors import FolderError
from testbed.files import write_json
from testbed.records import Record, as_json, format_of, problem, too_new

FILE = "certificate.json"
_FORMAT = 2  # the latest that this version reads; in the first one all fields stood side by side

TOLERANCE = 0.01  # of the loss: about the error of a small study's forecast

Judgement = Literal["right", "wrong", "open"]


class BracketFindings(Record):
    """The findings of the brackets.

    `corners` has one entry for each bracket, those at further batches among them. `trend` and `rungs` follow from the
    corners at the study's own batch; they are None and empty unless every optimum lies inside its bracket. `runs`
    and `flops` are what the brackets cost.
    """

    corners: tuple[Corner, ...]
    trend: OptimumTrend | None
    rungs: tuple[RungExcess, ...]
    runs: int
    flops: int


class GridFindings(Record):
    """The findings in the finished grid: `shifts` need brackets, `collapse` and `outliers` enough rungs and seeds."""

    shifts: tuple[Shift, ...]
    collapse: Collapse | None
    outliers: Outliers | None


class Certificate(Record):
    """The findings about a study's learning rates, in three parts, each None until it is made.

    `brackets` come from runs at several multiples of the rule's learning rate, `transfer` from a coordinate check,
    `grid` from the finished study. `level` is that of all intervals; `lr` and `batch_tokens` are the study's own.
    """

    study: str
    config_hash: str
    made_at: str
    level: float
    batch_tokens: int
    lr: float
    brackets: BracketFindings | None = None
    transfer: Transfer | None = None
    grid: GridFindings | None = None
    format: int = _FORMAT

    @model_validator(mode="before")
    @classmethod
    def _from_the_first_format(cls, found: Any) -> Any:
        if not isinstance(found, dict) or "corners" not in found:
            return found
        found = dict(found)
        brackets = {name: found.pop(name) for name in BracketFindings.model_fields if name in found}
        grid = {name: found.pop(name) for name in GridFindings.model_fields if name in found}
        return {
            **found,
            "brackets": brackets if brackets["corners"] else None,
            "grid": grid if any(grid.values()) else None,
        }

    @property
    def corners(self) -> tuple[Corner, ...]:
        """All brackets; empty where none were made."""
        return self.brackets.corners if self.brackets else ()

    @property
    def own_corners(self) -> tuple[Corner, ...]:
        """The brackets at the study's own batch."""
        return tuple(corner for corner in self.corners if corner.batch_tokens == self.batch_tokens)

    @property
    def rungs(self) -> tuple[RungExcess, ...]:
        """The excess loss at every rung and horizon of the study; empty where the brackets do not determine it."""
        return self.brackets.rungs if self.brackets else ()

    @property
    def worst(self) -> RungExcess | None:
        """The rung of the grid with the largest excess loss."""
        grid = [rung for rung in self.rungs if rung.role == "grid"]
        return max(grid, key=lambda rung: rung.excess, default=None)

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """How each law's parameters would move without the excess loss; empty where that is not known."""
        return self.grid.shifts if self.grid else ()

    @property
    def answer(self) -> Judgement:
        """Whether the rule's learning rates are right on the grid.

        "right": shown to cost less than TOLERANCE of the loss at every rung. "wrong": shown to cost more somewhere, to
        diverge, or, by the coordinate check, to depend on width. "open": the brackets show neither.
        """
        grid = [rung for rung in self.rungs if rung.role == "grid"]
        beyond = [corner.excess for corner in self.own_corners if corner.status != "inside"]
        at_least = max([rung.interval.low for rung in grid] + beyond, default=0.0)
        if any(corner.rule_diverges for corner in self.own_corners):
            return "wrong"
        if at_least > TOLERANCE or (self.transfer is not None and not self.transfer.hidden_steady):
            return "wrong"
        known = bool(grid) and all(rung.interval.high <= TOLERANCE for rung in grid)
        return "right" if known else "open"

    def write(self, folder: Path) -> Path:
        """Write it into `folder`, whole or not at all, over an earlier one; returns the file's path."""
        write_json(folder / FILE, as_json(self))
        return folder / FILE


def read_certificate(folder: Path, config_hash: str) -> Certificate | None:
    """The certificate in `folder`, None where there is none.

    Raises:
        FolderError: The file is no certificate, that of another configuration, or of a newer version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    content = path.read_bytes()
    if newer := too_new(format_of(content), _FORMAT):
        raise FolderError(f"{path}: {newer}")
    try:
        found = Certificate.model_validate_json(content)
    except ValidationError as error:
        raise FolderError(
            f"{path}: not a certificate ({problem(error)}); delete it and make a new one with testbed tune {folder}"
        ) from None
    if found.config_hash != config_hash:
        raise FolderError(
            f"{path}: the certificate of another configuration ({found.study}, sha256 {found.config_hash[:12]}, here "
            f"{config_hash[:12]}); delete it and make a new one with testbed tune {folder}"
        )
    return found
