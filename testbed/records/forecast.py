"""The sealed forecast of a target run, and the verdict on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from testbed.config.identity import Label, Later
from testbed.files import digest
from testbed.records.record import Positive, Record, Whole
from testbed.records.repetition import Repetition
from testbed.records.run_spec import Value

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
    """The fit of one law and its prediction for the target.

    `params` are in natural units, `objective` is the sum of Huber losses on the logarithm of the loss, `predicted` is in
    nats/token. `sd` is the relative standard deviation of the prediction when the runs are resampled. `entropy` is the
    interval of the law's constant term E in nats/token, None for a law without one.
    """

    law: str
    params: dict[str, float]
    objective: float
    predicted: Above
    sd: NotBelow
    entropy: Interval | None


class TargetFacts(Record):
    """The target that a forecast is about: its runs, one a seed, with their common size, tokens and training FLOPs.

    `columns` are the target's values of what the grid varies, by column of the points table.
    """

    runs: Annotated[tuple[str, ...], Field(min_length=1)]
    width: Positive
    n_params_non_embedding: Positive
    n_params_total: Positive
    tokens: Positive
    flops: Positive
    columns: Annotated[dict[str, float], Later] = Field(default_factory=dict)


class Entropy(Record):
    """The irreducible loss (nats/token): the union of the laws' intervals, and whether that is narrow enough to use."""

    interval: Interval
    identified: bool
    reason: str


class MissingCell(Record):
    """One (N, D, seed) of the grid that the fit lacks, because its run failed; `cell` are its values of the grid's axes."""

    run: str
    width: int
    n_params_non_embedding: int
    n_params_total: int
    tokens: int
    init_seed: int
    data_seed: int
    reason: str
    cell: Annotated[dict[str, Value], Later] = Field(default_factory=dict)


class Retried(Record):
    """A run of the grid that replaces a diverged one (`retry_of`), at the lower learning rate `lr`."""

    run: str
    retry_of: str
    width: int
    lr: float


FORECAST_FORMAT = 1  # the latest that this version reads


class Forecast(Record):
    """A forecast, sealed by its digest: the prediction, its interval, and all that they follow from.

    Losses are in nats/token. `sd_trunks`, `sd_seeds` and `sd_laws` are relative standard deviations that make up the
    interval: resampling of the runs, seed noise of the target's mean, disagreement of the laws. `missing` are the cells
    that the fit lacks, `retried` its runs that replace diverged ones. `repetition` says how often the text is read, where it is
    read more than once; `format` is the number of the file's format.
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
    repetition: Annotated[Repetition | None, Later] = None
    format: Annotated[Positive, Later] = 1
    digest: Annotated[str, Label] = ""

    def computed_digest(self) -> str:
        """SHA-256 of everything but the digest itself, in hexadecimal."""
        return digest(self.identity())

    def sealed(self) -> Forecast:
        """This forecast with its digest."""
        return self.model_copy(update={"digest": self.computed_digest()})


class Verdict(Record):
    """A sealed forecast compared with the trained target. Errors are relative: predicted / observed - 1.

    `z` is the error in standard deviations of fit, seeds and laws together. `compute_equivalent` is the factor on the
    target's compute at which the forecast's laws give the observed loss, None where no compute does. `hit` says whether
    the observed loss (nats/token) lies in the interval, `entropy_held` whether the true entropy lies in
    the interval of `Forecast.entropy`, where it is known. `best_of_grid` is the lowest loss (nats/token, mean of seeds) in the
    grid, `repetition` the forecast's.
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
    best_of_grid: float | None = None
    repetition: Repetition | None = None
