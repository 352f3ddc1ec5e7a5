"""What a study will cost on this machine, from its plan and a few measured steps of each shape; starts no run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from testbed.config import Config
from testbed.executors import default_workers
from testbed.study import settle
from testbed.sweep import Plan
from testbed.train import choose_device, measure_pace
from testbed.units import show_count, show_seconds


@dataclass(frozen=True)
class Estimate:
    """A plan with the seconds of one run by width, and of the whole; None where they were not measured."""

    plan: Plan
    device: str
    workers: int
    run_seconds: dict[int, float] | None
    grid_seconds: float | None
    target_seconds: float | None

    def sentences(self) -> list[str]:
        """Total cost in words."""
        flops = sum(spec.flops for spec in self.plan.runs)
        tokens = sum(spec.tokens for spec in self.plan.runs)
        total = f"{show_count(flops)} training FLOPs, {show_count(tokens)} tokens in all"
        if self.grid_seconds is None or self.target_seconds is None:
            return [f"{total}; no times (--no-calibrate)"]
        times = f"grid {show_seconds(self.grid_seconds)}, target {show_seconds(self.target_seconds)}"
        return [f"{total}; on {self.workers} worker{'s' * (self.workers > 1)} ({self.device}) about: {times}"]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        runs = [
            {
                "run": spec.run_id,
                "role": spec.role,
                "width": spec.shape.width,
                "depth": spec.shape.depth,
                "n_params_non_embedding": spec.counts.n_params_non_embedding,
                "n_params_total": spec.counts.n_params_total,
                "horizons": [
                    {
                        "tokens": h.tokens,
                        "steps": h.steps,
                        "flops": h.tokens * spec.counts.flops_per_token,
                        "flops_6nd": 6 * spec.counts.n_params_non_embedding * h.tokens,
                        "tokens_per_param": h.tokens / spec.counts.n_params_non_embedding,
                    }
                    for h in spec.horizons
                ],
                "batch_tokens": spec.batch_tokens,
                "lr": spec.lr,
                "lr_hidden": spec.lr_hidden,
                "init_seed": spec.init_seed,
                "data_seed": spec.data_seed,
                "steps": spec.steps,
                "tokens": spec.tokens,
                "flops": spec.flops,
                "seconds": None if self.run_seconds is None else self.run_seconds[spec.shape.width],
            }
            for spec in self.plan.runs
        ]
        return {
            "runs": runs,
            "warnings": list(self.plan.warnings),
            "device": self.device,
            "workers": self.workers,
            "grid_seconds": self.grid_seconds,
            "target_seconds": self.target_seconds,
        }


def estimate(config: Config, calibrate: bool = True) -> Estimate:
    """Plan `config` and, if asked to, measure each shape for some twenty steps on its device."""
    source, made = settle(config)
    device = choose_device(config.execution.device)
    workers = config.execution.workers or default_workers(device)
    if not calibrate:
        return Estimate(made, device.type, workers, None, None, None)
    first = {spec.shape.width: spec for spec in reversed(made.runs)}
    paces = {width: measure_pace((spec,), source, device) for width, spec in first.items()}
    seconds = {spec.run_id: paces[spec.shape.width].seconds(spec) for spec in made.runs}
    by_width = {spec.shape.width: seconds[spec.run_id] for spec in reversed(made.runs)}
    grid, target = (_makespan([seconds[s.run_id] for s in specs], workers) for specs in (made.grid, made.target))
    return Estimate(made, device.type, workers, by_width, grid, target)


def _makespan(durations: list[float], workers: int) -> float:
    """Seconds until the last worker is done when each takes the longest run left."""
    loads = [0.0] * workers
    for duration in sorted(durations, reverse=True):
        loads[loads.index(min(loads))] += duration
    return max(loads)
