"""The sealed forecast and its verdict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from testbed.files import digest
from testbed.identity import Label, Later
from testbed.records.record import Positive, Record, Whole

Above = Annotated[float, Field(gt=0, le=1e100)]
NotBelow = Annotated[float, Field(ge=0, le=1e100)]


class Interval(Record):
    """An interval with its nominal level."""

    low: float
    high: float
    level: Annotated[float, Field(gt=0, lt=1)]

    def holds(self, value: float) -> bool:
        """Whether the value lies in the interval."""
        return self.low <= value <= self.high


class LawForecast(Record):
    """One law's fit and what it says of the target.

    `params` in natural units; `objective` is the sum of Huber losses on log-loss; `predicted` in
    nats/token; `sd` is the relative standard deviation by resampling the trunks; `entropy` is the
    interval of the law's constant term E in nats/token, None for a law without one.
    """

    law: str
    params: dict[str, float]
    objective: float
    predicted: Above
    sd: NotBelow
    entropy: Interval | None


class TargetFacts(Record):
    """The run (with its seeds) that a forecast is about."""

    runs: Annotated[tuple[str, ...], Field(min_length=1)]
    width: Positive
    n_params_non_embedding: Positive
    n_params_total: Positive
    tokens: Positive
    flops: Positive
    columns: Annotated[dict[str, float], Later] = Field(default_factory=dict)


class Entropy(Record):
    """The irreducible loss by the laws: the union of their intervals, and whether that is narrow enough to be used."""

    interval: Interval
    identified: bool
    reason: str


class MissingCell(Record):
    """One (N, D, seed) of the grid whose run failed, so that the fit has to do without it."""

    run: str
    width: int
    n_params_non_embedding: int
    n_params_total: int
    tokens: int
    init_seed: int
    data_seed: int
    reason: str


class Retried(Record):
    """A run of the grid that stands in for one that diverged, at a lower learning rate."""

    run: str
    retry_of: str
    width: int
    lr: float


FORECAST_FORMAT = 1  # the latest that this version reads


class Forecast(Record):
    """A forecast, sealed by its digest: the prediction, its interval, and all that they follow from.

    Losses in nats/token; `sd_*` are relative standard deviations, the parts of the interval:
    resampling of trunks, seed noise of the target's mean, disagreement of the laws. `missing` are the
    cells that the fit was made without, `retried` the runs in it that stand in for others.
    """

    study: str
    config_hash: str
    sealed_at: str
    after_the_fact: bool
    target: TargetFacts
    compute_ratio: Above
    rule: str
    n_column: Literal["n_params_non_embedding", "n_params_total"]
    delta: float
    bootstrap: int
    seed: int
    points_digest: str
    n_points: Whole
    n_cells: Whole
    n_runs: Whole
    predicted: Above
    interval: Interval
    sd_trunks: NotBelow
    sd_seeds: NotBelow
    sd_laws: NotBelow
    laws: Annotated[tuple[LawForecast, ...], Field(min_length=1)]
    beside: tuple[LawForecast, ...]
    entropy: Entropy | None
    baselines: dict[str, float]
    versions: dict[str, str]
    missing: Annotated[tuple[MissingCell, ...], Later] = ()
    retried: Annotated[tuple[Retried, ...], Later] = ()
    format: Annotated[Positive, Later] = 1
    digest: Annotated[str, Label] = ""

    def computed_digest(self) -> str:
        """SHA-256 of everything but the digest itself, in hexadecimal."""
        return digest(self.identity())

    def sealed(self) -> Forecast:
        """The same forecast with its digest."""
        return self.model_copy(update={"digest": self.computed_digest()})


class Verdict(Record):
    """How a sealed forecast fared. Errors are relative: predicted / observed - 1.

    `z` is the error in standard deviations of fit, seeds and laws together;
    `compute_equivalent` is the factor on the target's compute at which the forecast's law gives the
    observed loss, None where no compute does.
    """

    forecast_digest: str
    judged_at: str
    after_the_fact: bool
    predicted: float
    interval: Interval
    observed: float
    observed_runs: dict[str, float]
    error: float
    hit: bool
    z: float
    compute_equivalent: float | None
    law_errors: dict[str, float]
    baseline_errors: dict[str, float]
    true_entropy: float | None
    entropy_held: bool | None
