"""The tuned-grid certificate of a study: how far its results can be laid to its learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from testbed.analysis.certificate.collapse import Collapse
from testbed.analysis.certificate.coordinate_check import Transfer
from testbed.analysis.certificate.corners import Corner
from testbed.analysis.certificate.learning_rates import Rung, Shift, Trend
from testbed.analysis.certificate.outliers import Outliers
from testbed.errors import FolderError
from testbed.files import write_json
from testbed.records import Record, as_json

FILE = "certificate.json"

TOLERANCE = 0.01  # of the loss: about what a forecast of a small study errs by

Answer = Literal["right", "wrong", "open"]


class Certificate(Record):
    """What the brackets, the coordinate check and the finished sweep say; a part is empty or None that was not made.

    `corners` are all brackets, those of the study's own batch among them (`batch_tokens`); `trend` and
    `rungs` follow from these where every optimum lies inside its bracket, `shifts` where the grid is
    done. `flops` is what the brackets cost.
    """

    study: str
    config_hash: str
    made_at: str
    level: float
    batch_tokens: int
    lr: float
    corners: tuple[Corner, ...]
    trend: Trend | None
    rungs: tuple[Rung, ...]
    shifts: tuple[Shift, ...]
    transfer: Transfer | None
    collapse: Collapse | None
    outliers: Outliers | None
    runs: int
    flops: int

    @property
    def own_corners(self) -> tuple[Corner, ...]:
        """The brackets at the study's own batch."""
        return tuple(corner for corner in self.corners if corner.batch_tokens == self.batch_tokens)

    @property
    def worst(self) -> Rung | None:
        """The grid's rung that the rule leaves the largest excess at."""
        grid = [rung for rung in self.rungs if rung.role == "grid"]
        return max(grid, key=lambda rung: rung.excess, default=None)

    @property
    def answer(self) -> Answer:
        """Whether the rule is right on the grid: shown to leave less than TOLERANCE everywhere, or shown not to.

        "open" where the brackets do not say; a rule that a coordinate check finds to depend on width is
        wrong whatever the brackets say.
        """
        grid = [rung for rung in self.rungs if rung.role == "grid"]
        beyond = [corner.excess for corner in self.own_corners if corner.status != "inside"]
        low = max([rung.interval.low or 0.0 for rung in grid] + beyond, default=0.0)
        if any(corner.rule_diverges for corner in self.own_corners):
            return "wrong"
        if low > TOLERANCE or (self.transfer is not None and not self.transfer.hidden_steady):
            return "wrong"
        known = bool(grid) and all(r.interval.high is not None and r.interval.high <= TOLERANCE for r in grid)
        return "right" if known else "open"

    def write(self, folder: Path) -> Path:
        """Write it into `folder`, whole or not at all; it follows from runs, so it may be made again."""
        write_json(folder / FILE, as_json(self))
        return folder / FILE


def read_certificate(folder: Path, config_hash: str) -> Certificate | None:
    """The certificate in `folder`; None where there is none, FolderError where it is another configuration's."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = Certificate.model_validate_json(path.read_text())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise FolderError(
            f"{path}: not a certificate ({where}: {problem['msg']}); delete it and make it anew with testbed tune {folder}"
        ) from None
    if found.config_hash != config_hash:
        raise FolderError(
            f"{path}: the certificate of another configuration ({found.study}, sha256 {found.config_hash[:12]}, here "
            f"{config_hash[:12]}); delete it and make one with testbed tune {folder}"
        )
    return found
