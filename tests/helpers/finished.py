"""Finished runs for tests of what reads them: trained here and now, or with losses that are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from testbed.config.loading import check_config, tomllib
from testbed.files import append_line, write_json
from testbed.records import Done, Eval, Provenance, RunSpec, as_json
from testbed.training.data import TokenSource, open_source
from testbed.training.store import SweepFolder
from testbed.training.sweep import plan
from testbed.training.train import Finished, Logged, train

AT = "2026-01-01T00:00:00+00:00"


def sweep_of(toml: str, path: Path) -> tuple[SweepFolder, TokenSource]:
    """A fresh folder of this configuration, each run alone."""
    config = check_config(tomllib.loads(toml), "the test")
    source = open_source(config.data)
    return SweepFolder.create(path, config, plan(config, source.facts).runs), source


def train_here(sweep: SweepFolder, spec: RunSpec, source: TokenSource) -> None:
    """Train one run to its end in this process and leave its records."""
    folder = sweep.run(spec).path
    folder.mkdir(parents=True)
    evals = []
    for event in train((spec,), source, (folder,), torch.device("cpu")):
        if isinstance(event, Logged):
            evals.append(event.evaluation)
        elif isinstance(event, Finished):
            leave_records(sweep, spec, evals)


def leave_records(sweep: SweepFolder, spec: RunSpec, evals: list[Eval]) -> None:
    """What a finished run has besides its weights."""
    folder = sweep.run(spec).path
    folder.mkdir(parents=True, exist_ok=True)
    provenance = Provenance(
        started=AT,
        versions={"testbed": "0.1.0"},
        python="3.11",
        platform="Linux",
        device="a <CPU> | of | somebody",
        cpu_capability="AVX2",
        threads=1,
        deterministic=True,
        commit=None,
        data_fingerprint=spec.data.fingerprint,
    )
    write_json(folder / "spec.json", as_json(spec))
    append_line(folder / "provenance.jsonl", provenance.model_dump_json())
    for evaluation in evals:
        append_line(folder / "evals.jsonl", evaluation.model_dump_json())
    done = Done(finished=AT, steps=spec.steps, tokens=spec.tokens, flops=spec.flops, seconds=1.0)
    write_json(folder / "done.json", as_json(done))


def finish_by_law(sweep: SweepFolder, specs: Sequence[RunSpec], noise: float = 0.002, **changed: float) -> None:
    """Finish runs with losses E + A / N^alpha + B / D^beta, and noise of each run and each loss (relative)."""
    law = {"A": 30.0, "B": 900.0, "E": 1.2, "alpha": 0.35, "beta": 0.45} | changed
    for spec in specs:
        rng = np.random.default_rng((spec.shape.width, spec.init_seed, spec.data_seed))
        shared = noise * rng.normal()
        n, evals = spec.counts.n_params_non_embedding, []
        for horizon in spec.horizons:
            for step, of in ((horizon.branch_step, None), (horizon.steps, horizon.tokens)):
                tokens = step * spec.batch_tokens
                loss = law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * tokens ** -law["beta"]
                loss *= math.exp(shared + 0.3 * noise * rng.normal()) * (1.02 if of is None else 1.0)
                evals.append(
                    Eval(
                        phase="stable" if of is None else "annealed",
                        horizon=of,
                        step=step,
                        tokens=tokens,
                        flops=tokens * spec.counts.flops_per_token,
                        loss=loss,
                        bpb=None,
                        train_loss=loss,
                        lr=spec.lr,
                        seconds=1.0,
                    )
                )
        leave_records(sweep, spec, evals)
