"""Hashes, run ids and a sealed forecast of the first release, which later versions must keep."""

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
