"""The sealed forecast and its verdict."""

from __future__ import annotations

from testbed.files import digest
from testbed.records.record import Record


class Interval(Record):
    """A range with its nominal level."""

    low: float
    high: float
    level: float


class LawForecast(Record):
    """One law's fit and what it says of the target.

    `params` in natural units; `objective` is the sum of Huber losses on log-loss; `predicted` in
    nats/token; `sd` is the relative standard deviation by resampling the trunks; `entropy` is the
    interval of the law's constant term E in nats/token, None for a law without one.
    """

    law: str
    params: dict[str, float]
    objective: float
    predicted: float
    sd: float
    entropy: Interval | None


class TargetFacts(Record):
    """The run (with its seeds) that a forecast is about."""

    runs: tuple[str, ...]
    width: int
    n_params_non_embedding: int
    n_params_total: int
    tokens: int
    flops: int


class Entropy(Record):
    """What the laws say of the irreducible loss: the union of their intervals, and whether that tells anything."""

    interval: Interval
    identified: bool
    reason: str


class Forecast(Record):
    """A forecast, sealed by its digest: everything that the verdict will be held against.

    Losses in nats/token; `sd_*` are relative standard deviations, the parts of the interval:
    resampling of trunks, seed noise of the target's mean, disagreement of the laws.
    """

    study: str
    config_hash: str
    sealed_at: str
    after_the_fact: bool
    target: TargetFacts
    compute_ratio: float
    rule: str
    n_column: str
    delta: float
    bootstrap: int
    seed: int
    points_digest: str
    n_points: int
    n_cells: int
    n_runs: int
    predicted: float
    interval: Interval
    sd_trunks: float
    sd_seeds: float
    sd_laws: float
    laws: tuple[LawForecast, ...]
    beside: tuple[LawForecast, ...]
    entropy: Entropy | None
    baselines: dict[str, float]
    versions: dict[str, str]
    digest: str = ""

    def computed_digest(self) -> str:
        """SHA-256 of everything but the digest."""
        return digest(self.model_dump(mode="json", exclude={"digest"}))

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
