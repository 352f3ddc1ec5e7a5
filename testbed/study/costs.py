"""Estimates what a study costs on this machine, from its plan and a few measured steps per shape; starts no run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from testbed.config import Budget, Config
from testbed.study.preparation import device_and_workers, engines, settle, timetable
from testbed.training.data.description import said
from testbed.training.executors import Engines, Timetable, settle_packs
from testbed.training.store.ledger import Entry, Ledger
from testbed.training.store.spending import account, affordable, missing
from testbed.training.sweep import Plan, packs
from testbed.training.train import estimate as estimate_memory
from testbed.units import show_count, show_seconds


@dataclass(frozen=True)
class CostEstimate:
    """A plan with the memory that its runs take, and the time if it was measured."""

    plan: Plan
    device: str
    workers: int
    engines: Engines
    timetable: Timetable | None
    budget: Budget | None = None
    data: tuple[str, ...] = ()  # what is said of the tokens

    @property
    def run_memory(self) -> dict[str, int]:
        """Bytes per run, by its id, as measured or else estimated from its shape.

        A run that is trained in a pack has the bytes of the whole pack; one on several processes, those of one process.
        """
        if self.timetable:
            return self.timetable.run_memory
        return {spec.run_id: estimate_memory(spec).bytes for spec in self.plan.runs}

    def sentences(self) -> list[str]:
        """The total cost in sentences."""
        flops = sum(spec.flops for spec in self.plan.runs)
        tokens = sum(spec.tokens for spec in self.plan.runs)
        total = f"{show_count(flops)} training FLOPs, {show_count(tokens)} tokens in all"
        if self.timetable is None:
            known = self.budget is None or self.budget.device_minutes is None
            beside = self.budget_sentences() if known else ["budget: device minutes are not known without measuring"]
            without = f"{total}; no times and no packs (--no-calibrate)"
            return [*self.data, without, *beside, *self.engines.sentences()]
        times = (
            f"grid {show_seconds(self.timetable.grid_seconds)}, target {show_seconds(self.timetable.target_seconds)}"
        )
        workers = f"{self.workers} worker{'s' * (self.workers > 1)} ({self.device})"
        return [
            *self.data,
            f"{total}; on {workers} about: {times}",
            *self.budget_sentences(),
            *self.engines.sentences(),
            *self.timetable.sentences,
        ]

    def budget_sentences(self) -> list[str]:
        """The runs that the budget covers and those that it does not, in sentences; empty without a budget."""
        if self.budget is None:
            return []
        ledger = self._ledger
        paid, unpaid = affordable(ledger, self.budget, packs(self.plan.grid) + packs(self.plan.target))
        cost = ledger.cost(ledger.entry(spec) for pack in paid for spec in pack)
        fits = f"budget: {sum(map(len, paid))} of {len(self.plan.runs)} runs fit, for {account(cost, self.budget)}"
        return [fits] + ([f"beyond the budget: {missing(ledger, unpaid)}"] if unpaid else [])

    @property
    def _ledger(self) -> Ledger:
        """The ledger before any run is started."""
        seconds = self.timetable.run_seconds if self.timetable else {}
        return Ledger([Entry(spec, "to do", 0, 0, 0.0) for spec in self.plan.runs], seconds)

    def as_json(self) -> dict[str, Any]:
        """The plan and its costs as JSON values."""
        memory = self.run_memory
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
                "pack": spec.engine.pack,
                "micro_rows": spec.engine.micro_rows,
                "recompute": spec.engine.recompute,
                "processes": spec.engine.processes,
                "sharded": spec.engine.sharded,
                "memory_bytes": memory[spec.run_id],
                "seconds": None if self.timetable is None else self.timetable.run_seconds[spec.run_id],
            }
            for spec in self.plan.runs
        ]
        return {
            "runs": runs,
            "warnings": list(self.plan.warnings),
            "data": list(self.data),
            "device": self.device,
            "workers": self.workers,
            "grid_seconds": None if self.timetable is None else self.timetable.grid_seconds,
            "target_seconds": None if self.timetable is None else self.timetable.target_seconds,
        }


def estimate_costs(config: Config, calibrate: bool = True) -> CostEstimate:
    """Plan `config`; with `calibrate`, train a few steps of each shape on its device to measure time and memory.

    Raises:
        ConfigError: The plan or its forecast is impossible.
        DataError: The data cannot be read or does not hold enough.
    """
    source, made = settle(config)
    data = tuple(said(source))
    device, workers = device_and_workers(config, made.runs)
    chosen = engines(config, made, measure=calibrate)
    if not calibrate:
        return CostEstimate(
            settle_packs(chosen.plan, config.train) or chosen.plan,
            device.type,
            workers,
            chosen,
            None,
            config.budget,
            data,
        )
    measured = timetable(config, chosen.fitting())
    return CostEstimate(measured.plan, device.type, workers, chosen, measured, config.budget, data)
