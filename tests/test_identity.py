"""Hashes and run ids are those of the first release: a folder that lies on someone's disk is found again."""

import json
from pathlib import Path

import pytest

from testbed.config import load_config
from testbed.records import DataFacts, Forecast
from testbed.training.sweep import plan
from tests.helpers.known_ids import CELL, HASHES, RUNS, SEALED

CONFIGS = Path(__file__).parent.parent / "configs"

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
