"""Hashes and run ids are those of the first release: a folder that lies on someone's disk is found again."""

import json
from pathlib import Path

import pytest

from testbed.config import load_config
from testbed.records import DataFacts, Forecast
from testbed.training.sweep import plan

CONFIGS = Path(__file__).parent.parent / "configs"

HASHES = {
    "quick": "9b2ec5f811c7f81e75cf82fce27b38966e67ac12ae188504f3104e45fa2af419",
    "quick_synthetic": "5187e7e3440c78160e6343f37fea919fd5209c959b508bea1d30f68064370504",
}

RUNS = {
    "quick": """
        w0016-i0-d16-060d026506 w0016-i1-d65552-534cf2d639 w0016-i2-d131088-8465ee063b
        w0024-i0-d24-29d4429572 w0024-i1-d65560-8bef2c950b w0024-i2-d131096-ffb21f839d
        w0032-i0-d32-7e83b8bb7a w0032-i1-d65568-4fbc301388 w0032-i2-d131104-b648a763be
        w0048-i0-d48-e830c2459b w0048-i1-d65584-5c2c5315f4 w0048-i2-d131120-8f5d735026
        w0064-i1000-d65536064-85238d97d4 w0064-i1001-d65601600-4c867640c4
    """,
    "quick_synthetic": """
        w0016-i0-d0-58a3c50256 w0016-i1-d0-9411b12c1d w0016-i2-d0-9eaab37526
        w0024-i0-d0-19933e2bd3 w0024-i1-d0-b14a2923ed w0024-i2-d0-0f55c43301
        w0032-i0-d0-de6d0e80ba w0032-i1-d0-eab50828c2 w0032-i2-d0-cf09f99603
        w0040-i0-d0-9142130d4b w0040-i1-d0-685e6fa94f w0040-i2-d0-47a4d7ed7e
        w0048-i1000-d0-6a7f8bfdee w0048-i1001-d0-5e15adc67a
    """,
}

INTERVAL = {"low": 1.5, "high": 1.7, "level": 0.9}
CELL = {"run": "w0016-i0-d0-58a3c50256", "width": 16}
SEALED = {
    "study": "quick_synthetic",
    "config_hash": HASHES["quick_synthetic"],
    "sealed_at": "2026-01-01T00:00:00+00:00",
    "after_the_fact": False,
    "target": {
        "runs": ["w0048-i1000-d0-6a7f8bfdee"],
        "width": 48,
        "n_params_non_embedding": 83280,
        "n_params_total": 86352,
        "tokens": 4449792,
        "flops": 2500000000000,
    },
    "compute_ratio": 4.5,
    "rule": "r",
    "n_column": "n_params_non_embedding",
    "delta": 0.01,
    "bootstrap": 1000,
    "seed": 0,
    "points_digest": "0" * 64,
    "n_points": 36,
    "n_cells": 12,
    "n_runs": 12,
    "predicted": 1.69,
    "interval": {"low": 1.68, "high": 1.7, "level": 0.9},
    "sd_trunks": 0.001,
    "sd_seeds": 0.002,
    "sd_laws": 0.003,
    "laws": [
        {
            "law": "hoffmann",
            "params": {"E": 1.6, "A": 30.0},
            "objective": 0.01,
            "predicted": 1.69,
            "sd": 0.001,
            "entropy": INTERVAL,
        }
    ],
    "beside": [],
    "entropy": {"interval": INTERVAL, "identified": False, "reason": "wide"},
    "baselines": {"largest": 1.71},
    "versions": {"numpy": "2.0.0"},
}
WITH_FAILURES = {
    "missing": [
        CELL
        | {"n_params_non_embedding": 9000, "n_params_total": 10000, "tokens": 384000}
        | {"init_seed": 0, "data_seed": 0, "reason": "diverged"}
    ],
    "retried": [CELL | {"run": "w0016-i0-d0-58a3c50257", "retry_of": CELL["run"], "lr": 0.003}],
}


@pytest.mark.parametrize("name", ["quick", "quick_synthetic"])
def test_hash_and_run_ids_of_a_configuration(name):
    config = load_config(CONFIGS / f"{name}.toml")
    seq_len = config.data.seq_len
    facts = DataFacts(
        source=config.data.source,
        tokenizer="bytes",
        vocab_size={"quick": 256, "quick_synthetic": 32}[name],
        seq_len=seq_len,
        first_scored=0,
        train_tokens=50_000_000,
        val_tokens=1024 * seq_len,
        val_bytes=1024 * seq_len,
        entropy=None,
        fingerprint="0" * 64,
    )
    assert config.hash() == HASHES[name]
    assert [spec.run_id for spec in plan(config, facts).runs] == RUNS[name].split()


@pytest.mark.parametrize(
    ("further", "digest"),
    [
        ({}, "a69db360d7fefdaa5342f5ebe1374fe3349119474c89063b04f441a82478ceee"),
        (WITH_FAILURES, "04434085a0846105e36a0004a08eb0497e145a8e2fc23178c4eae04e71c50f5c"),
    ],
)
def test_digest_of_a_sealed_forecast(further, digest):
    assert Forecast.model_validate_json(json.dumps(SEALED | further)).sealed().digest == digest


@pytest.mark.parametrize(
    "override",
    ["grid.vary.train.lr=[0.003]", "train.retry_lr=0.5", 'train.schedule="cosine"', "data.unique_tokens=4096"],
)
def test_a_key_that_came_later_is_in_the_hash_where_it_is_used(override):
    assert load_config(CONFIGS / "quick.toml", [override]).hash() != HASHES["quick"]


@pytest.mark.parametrize("override", ["execution.workers=7", "budget.flops=1e9", 'tracker.kind="tensorboard"'])
def test_what_decides_no_result_is_in_no_hash(override):
    assert load_config(CONFIGS / "quick.toml", [override]).hash() == HASHES["quick"]
