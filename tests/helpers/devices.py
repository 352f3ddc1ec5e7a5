"""Tests on the CPU and, where there is one, on a CUDA GPU; packs of runs with seeds and rates of their own."""

import pytest
import torch

from testbed.training.sweep import packed

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
gpu = pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_gpu)])
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
PACKS = [None, 1, 3]  # the family's own module, and the packed engine with one run and with three


def runs(spec, pack, seeds=(0, 1, 2), factors=(1.0, 0.5, 2.0), **changes):
    """Runs of a shape with seeds and rates of their own, one without a pack."""
    made = [
        spec.model_copy(
            update={"init_seed": seed, "data_seed": 10 + seed, "lr": spec.lr * f, "lr_hidden": spec.lr_hidden * f}
            | changes
        )
        for seed, f in zip(seeds, factors, strict=True)
    ]
    return packed(made[: pack or 1], pack)
