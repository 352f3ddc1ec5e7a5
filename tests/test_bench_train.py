"""The training bench: contenders that train the same, ratios that follow from the kept rounds, bars by arithmetic."""

import json
import math
from statistics import median

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts import training_bench
from scripts.training_bench.crew import Entry, Track
from scripts.training_bench.loop import PlainGPT
from scripts.training_bench.ours import matmul, specs
from scripts.training_bench.packing import made_anew
from scripts.training_bench.sizes import ReadyTokens, Size
from scripts.training_bench.step import SIZES, Asked
from scripts.training_bench.sweep import annealed_by_trainer
from scripts.training_bench.table import NOT_YET, datasheet_peak, judged
from scripts.training_bench.trainer import AS_IT_COMES, Batches, Items, gpt2, make_trainer
from testbed.records import Engine
from testbed.training.models import find_family

pytestmark = pytest.mark.slow  # benches of scripts/: no part of the quick suite

TINY = Size("tiny", 16, 2, 8, 64, 32, 256)


@pytest.mark.parametrize("size", [TINY, SIZES["10k"][0]], ids=lambda size: size.name)
def test_contenders_do_the_same_products(size):
    ids = torch.zeros((2, size.seq_len), dtype=torch.long)
    shape = specs(size, ReadyTokens(size), Engine())[0].shape
    for network in (find_family("gpt").build(shape, 0), PlainGPT(size), gpt2(size)):
        with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(MATH):
            network(ids)
        assert 3 * counter.get_total_flops() == 2 * size.seq_len * size.counts().flops_per_token


MATH = torch.nn.attention.SDPBackend.MATH


def test_names_of_sizes_are_their_parameters():
    for name, (size, _, _) in SIZES.items():
        counts = size.counts()
        number = float(name[:-1]) * {"k": 1e3, "M": 1e6, "B": 1e9}[name[-1]]
        tied = counts.n_params_total - size.vocab_size * size.width  # GPT-2's head is its embedding
        assert 0.6 * number < tied < 1.6 * number


def test_trainer_trains_a_point_of_the_sweep(tiny_spec, tiny_source):
    losses = [annealed_by_trainer(tiny_spec, horizon, tiny_source, "cpu") for horizon in tiny_spec.horizons]
    assert math.log(tiny_spec.shape.vocab_size) > losses[0] > losses[-1] > tiny_source.facts.entropy


@pytest.mark.parametrize("best", [True, False])
def test_trainer_takes_a_whole_batch_at_every_step(best):
    seen = []
    network = gpt2(TINY, best=best)
    network.transformer.wte.register_forward_hook(lambda _, ids, __: seen.append(tuple(ids[0].shape)))
    windows = ReadyTokens(TINY).tensor()
    data = (Batches if best else Items)(windows, 40 * TINY.rows)
    steps = []
    made = make_trainer(network, data, TINY, "cpu", 12, lambda: steps.append(1), **({} if best else AS_IT_COMES))
    assert made.train().global_step == len(steps) == 12
    assert seen == [(TINY.rows, TINY.seq_len)] * 12


def test_both_kinds_of_batches_hold_the_same_tokens():
    windows = ReadyTokens(TINY).tensor()
    batch, item = Batches(windows, 64).__getitems__([3, 5]), Items(windows, 64)[5]
    assert (batch["input_ids"][1] == item["input_ids"]).all()
    assert (batch["shift_labels"][1, :-1] == item["labels"][1:]).all()


def test_what_a_second_pack_makes_anew_is_counted():
    counted = made_anew(TINY, Engine(pack=2), "cpu")
    assert counted == [(0, 0), (0, 0)]  # neither graphs nor compilers on a CPU


def test_bars_by_arithmetic():
    assert judged(1.3, 1.3) == {"asked": ">= 1.3 x", "met": "yes"}
    assert judged(1.299, 1.3)["met"] == "NO"
    assert judged(None, 1.3)["met"] == "NO"
    assert judged(None, 1.3, measured=False)["met"] == "-"
    cells = Asked(mfu=0.4, tokens=400_000).cells({"ratio": 2.0, "mfu": 0.41, "ours": 399_999.0})
    assert cells == {"asked": ">= 40% MFU, >= 400,000 tokens/s", "met": "yes, NO"}
    assert datasheet_peak("NVIDIA H200") == datasheet_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert datasheet_peak("NVIDIA GeForce RTX 4090") is None


@pytest.mark.slow
def test_a_contender_that_fails_is_a_row_and_not_the_end():
    good, bad = Entry(matmul, (64, "cpu"), 2 * 64**3), Entry(matmul, (-1, "cpu"), 1)
    done = Track("cpu", 3, 0.01).race({"good": good, "bad": bad})
    assert done["bad"].error.startswith("RuntimeError")
    assert len(done["good"].rounds) == 3
    assert done["good"].tokens_per_second > 0


@pytest.mark.slow
def test_the_table_follows_from_the_rounds_it_keeps(tmp_path):
    out = tmp_path / "speed.md"
    words = ["--device", "cpu", "--only", "step", "gpu", "--sizes", "10k,1B", "--repeats", "3", "--seconds", "0.05"]
    training_bench.main([*words, "--out", str(out)])
    kept = json.loads(out.with_suffix(".json").read_text())
    small, large, *gpu = kept["rows"]
    contenders = small["figures"]["contenders"]
    pace = {}
    for name, done in contenders.items():
        assert done["error"] is None
        assert done["tokens"] == 2048
        assert done["memory"] > 0
        pace[name] = 2048 * done["steps"] / median(spent["cpu"] for spent in done["rounds"])
    ratio = max(pace["ours, module"], pace["ours, packed"]) / pace["Trainer"]
    assert small["figures"]["ratio"] == pytest.approx(ratio)
    assert small["cells"]["met"] == ("yes" if ratio >= 1.3 else "NO")
    assert small["figures"]["flops_per_token"] == 153_600
    for row in (large, *gpu):
        assert NOT_YET in row["cells"].values()
        assert "yes" not in row["cells"]["met"]
    text = out.read_text()
    assert f"| {ratio:.2f} |" in text
    assert kept["header"]["date"] in text


def test_unknown_sizes_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        training_bench.main(["--sizes", "10k,2k"])
    assert stopped.value.code == 2
    assert "found 2k; accepted: 10k, 30k" in capsys.readouterr().err
