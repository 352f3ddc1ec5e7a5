"""All annealed losses of a grid: the product's sweep against one Trainer run for each point. See __init__.py."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.training_bench.crew import Entry, Outcome, Spent, Tick, Track, context, keep_memory
from scripts.training_bench.sizes import ReadyTokens, Size
from scripts.training_bench.table import Row, judged, kept
from scripts.training_bench.trainer import Batches, gpt2, make_trainer, trainer
from testbed.config import Config, load_config
from testbed.records import DataFacts, Eval, Horizon, RunSpec
from testbed.study import Study
from testbed.training.data import TokenSource, open_source
from testbed.training.executors import Outcome as Ended
from testbed.training.executors import default_workers
from testbed.training.executors.pack_choice import makespan
from testbed.training.train.evaluation import validation_loss

LEAST = 4.0
KINDS = {"Trainer": True, "Trainer as it comes": False}  # whether it is at its best


def note(full: bool) -> str:
    """What the section's figures are."""
    theirs = (
        "Trainer really trained every one of its runs"
        if full
        else "Trainer's time is its measured seconds a step times its steps, and for each run its measured start and "
        "its evaluation (--full trains them all); one process of its at a time was timed, and they pay for no imports"
    )
    return (
        "Seconds for the annealed losses of every width, horizon and seed of the grid: ours trains a trunk a seed and "
        "branches from it, planning, calibration and start of the workers included, measured as one whole; Trainer "
        "trains each (width, horizon, seed) from the start with the same batch, warm-up and decay, as many one-thread "
        f"processes at a time, and evaluates once at the end on the same validation windows. {theirs}. The bar is on Trainer at "
        "its best."
    )


def rows(track: Track, path: Path, full: bool) -> Iterator[Row]:
    """Time by the clock and, on a CPU, CPU time."""
    config = load_config(path)
    execution = config.execution.model_copy(update={"device": track.device})
    config = config.model_copy(update={"execution": execution, "target": None})
    open_source(config.data)  # before the clock runs, since it is prepared once on a machine
    mine, grid, losses = _ours(config)
    workers = config.execution.workers or default_workers(torch.device(track.device), grid)
    points = [(spec, horizon) for spec in grid for horizon in spec.horizons]
    facts: dict[str, Any] = {"points": len(points), "workers": workers, "losses": {"ours": losses}}
    if full:
        theirs, facts["losses"]["Trainer"] = _every_point(points, path, track.device, workers)
        spent = {"Trainer": theirs}
    else:
        outcomes = track.race(_entries(grid, track.device))
        spent = {kind: _added_up(kind, points, outcomes, workers) for kind in KINDS}
        facts["contenders"] = kept(outcomes)
    facts["packs"] = {spec.run_id: spec.engine.pack for spec in grid}
    facts["spent"] = {name: asdict(each) for name, each in {"ours": mine, **spent}.items()}
    for clock in ("wall", "cpu") if track.device == "cpu" else ("wall",):
        seconds = {name: each[clock] for name, each in facts["spent"].items()}
        ratio = seconds["Trainer"] / seconds["ours"]
        cells = {
            "sweep": f"{config.name}: {len(points)} annealed losses, {workers} processes",
            "time": "by the clock" if clock == "wall" else "CPU time of all processes",
            **{f"{name}, s": f"{value:.0f}" for name, value in seconds.items()},
            **{f"{kind} / ours": f"{seconds[kind] / seconds['ours']:.2f}" for kind in spent},
        }
        yield Row("sweep", cells | judged(ratio, LEAST), facts | {"clock": clock, "ratio": ratio})


def _ours(config: Config) -> tuple[Spent, tuple[RunSpec, ...], dict[str, float]]:
    """The whole grid as a user's `testbed train` trains it; its runs and its annealed losses."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), _cpu()
        study = Study.create(config, Path(folder) / "study")
        study.train("grid", Silence())
        return Spent(time.perf_counter() - wall, _cpu() - cpu), study.grid, _annealed(study)


def _entries(specs: tuple[RunSpec, ...], device: str) -> dict[str, Entry]:
    entries = {}
    for spec in {spec.shape.width: spec for spec in specs}.values():
        size = _size(spec)
        for kind, best in KINDS.items():
            entries[f"{kind}, {size.width}"] = Entry(another_run, (size, device, best), size.batch_tokens, best)
        entries[f"evaluation, {size.width}"] = Entry(evaluations, (size, device, spec.data), spec.data.val_tokens)
    return entries


def _every_point(
    points: list[tuple[RunSpec, Horizon]], path: Path, device: str, workers: int
) -> tuple[Spent, dict[str, float]]:
    """Train every point by Trainer, the longest first; the losses by run and horizon."""
    waiting = sorted(points, key=lambda point: point[0].counts.flops_per_token * point[1].tokens)
    started = time.perf_counter()
    crew = [_hand(path, device) for _ in range(min(workers, len(points)))]
    losses: dict[str, float] = {}
    cpu = 0.0
    while crew:
        for pipe in wait(crew):
            answer = pipe.recv()
            losses |= answer["losses"]
            if answer["cpu"] is None:
                pipe.send(waiting.pop() if waiting else None)
            else:
                cpu += answer["cpu"]
                crew.remove(pipe)
    return Spent(time.perf_counter() - started, cpu), losses


def _hand(path: Path, device: str) -> Connection:
    """The parent's end of a process that trains points by Trainer."""
    processes = context(device)
    mine, theirs = processes.Pipe()
    processes.Process(target=_train_points, args=(theirs, path, device), daemon=True).start()
    theirs.close()
    return mine


def _train_points(pipe: Connection, path: Path, device: str) -> None:
    """Train the points that come, answer each with its loss, and at last with the CPU seconds spent."""
    if device == "cpu":
        torch.set_num_threads(1)
    keep_memory()
    source = open_source(load_config(path).data)
    answer: dict[str, float] = {}
    while True:
        pipe.send({"losses": answer, "cpu": None})
        point = pipe.recv()
        if point is None:
            break
        spec, horizon = point
        answer = {f"{spec.run_id}/{horizon.tokens}": annealed_by_trainer(spec, horizon, source, device)}
    pipe.send({"losses": {}, "cpu": time.process_time()})


def annealed_by_trainer(spec: RunSpec, horizon: Horizon, source: TokenSource, device: str) -> float:
    """Trainer's loss in nats/token of GPT-2 of this shape, trained to one horizon by the run's batch and schedule."""
    size, steps = _size(spec), horizon.steps
    windows = torch.as_tensor(source.rows(spec.data_seed, 0, steps * size.rows).astype(np.int64))
    network = gpt2(size, spec.init_seed)
    settings = {
        "learning_rate": spec.lr_hidden,
        "warmup_steps": spec.warmup_steps,
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_decay_steps": steps - horizon.branch_step, "decay_type": "linear"},
        "weight_decay": spec.weight_decay,
        "adam_beta1": spec.betas[0],
        "adam_beta2": spec.betas[1],
        "max_grad_norm": spec.clip or 0.0,
        "seed": spec.init_seed,
    }
    make_trainer(network, Batches(windows, len(windows)), size, device, steps, None, **settings).train()
    frozen = torch.as_tensor(source.validation().astype(np.int64)).to(device)
    return validation_loss(Logits(network), frozen, spec.data, device == "cuda")


def another_run(tick: Tick, size: Size, device: str, best: bool) -> None:
    """A Trainer that is not the first of its process: what only the first one loads is not charged to every point."""
    make_trainer(gpt2(size), Batches(ReadyTokens(size).tensor(), 2 * size.rows), size, device, 2).train()
    tick.restart()
    trainer(tick, size, device, best)


def evaluations(tick: Callable[[], None], size: Size, device: str, facts: DataFacts) -> None:
    """One pass after another of Trainer's network over as many validation windows as the study has."""
    count = facts.val_tokens // (size.seq_len - facts.first_scored)
    windows = ReadyTokens(size).tensor().to(device)
    frozen = windows[torch.arange(count) % len(windows)]
    network = Logits(gpt2(size).to(device))
    while True:
        validation_loss(network, frozen, facts, device == "cuda")
        tick()


class Logits(nn.Module):
    """A transformers network as the evaluation wants it: ids [B, T] to logits [B, T, V]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor) -> Tensor:
        """The logits alone."""
        return self.network(input_ids=ids).logits


def _added_up(kind: str, points: list[tuple[RunSpec, Horizon]], outcomes: dict[str, Outcome], workers: int) -> Spent:
    """Trainer's sweep from its pace: for each point its start (first step included), its steps and its evaluation.

    By the clock, each process takes the longest point that is left.
    """
    failed = [f"{name}: {outcome.error}" for name, outcome in outcomes.items() if outcome.error]
    if failed:
        raise SystemExit("the sweep has no figure, a contender failed: " + "; ".join(failed))
    wall, cpu = [], 0.0
    for spec, horizon in points:
        train, evaluate = (outcomes[f"{what}, {spec.shape.width}"] for what in (kind, "evaluation"))
        wall.append(train.ready.wall + (horizon.steps - 1) * train.step("wall") + evaluate.step("wall"))
        cpu += train.ready.cpu + (horizon.steps - 1) * train.step("cpu") + evaluate.step("cpu")
    return Spent(makespan(wall, workers), cpu)


def _annealed(study: Study) -> dict[str, float]:
    points = study.points().query("phase == 'annealed'")
    rows = zip(points["run"], points["tokens"], points["loss"], strict=True)
    return {f"{run}/{tokens}": loss for run, tokens, loss in rows}


def _size(spec: RunSpec) -> Size:
    shape = spec.shape
    name, tokens = f"width {shape.width}", spec.batch_tokens
    return Size(name, shape.width, shape.depth, shape.head_size, shape.vocab_size, shape.seq_len, tokens)


def _cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


class Silence:
    """A watcher that says nothing."""

    def started(self, spec: RunSpec) -> None:
        """Nothing."""

    def progress(self, spec: RunSpec, steps: int) -> None:
        """Nothing."""

    def evaluated(self, spec: RunSpec, evaluation: Eval) -> None:
        """Nothing."""

    def ended(self, spec: RunSpec, outcome: Ended) -> None:
        """Nothing."""
