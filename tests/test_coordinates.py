"""The coordinate check: what it measures of a network, and what it says of learning-rate rules."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from testbed.analysis.certificate.coordinate_check import judge_coordinates
from testbed.training.models import find_family
from testbed.training.sweep import learning_rates
from testbed.training.train.activations import measure_coordinates
from tests.helpers.brackets import coordinate_table

WIDTHS = (8, 16, 32, 64)
CPU = torch.device("cpu")


def spec_of(tiny_spec, config, width, seed, rates):
    family = find_family(config.model.family)
    shape = family.shape(width, config.model, tiny_spec.shape.vocab_size, tiny_spec.shape.seq_len)
    lr, lr_hidden = rates(width)
    changes = {
        "shape": shape, "counts": family.counts(shape), "init_seed": seed, "data_seed": seed,
        "lr": lr, "lr_hidden": lr_hidden, "warmup_steps": 0,
    }  # fmt: skip
    return tiny_spec.model_copy(update=changes)


def checked(tiny_spec, config, source, rates):
    tables = [
        measure_coordinates(spec_of(tiny_spec, config, width, seed, rates), source, CPU, 10)
        for width in WIDTHS
        for seed in range(3)
    ]
    return judge_coordinates(pd.concat(tables))


@pytest.mark.slow
def test_our_rule_keeps_hidden_activations_and_the_standard_one_does_not(tiny_spec, tiny_config, tiny_source):
    ours = checked(tiny_spec, tiny_config, tiny_source, lambda width: learning_rates(tiny_config.train, width))
    assert ours.hidden_steady, ours
    assert [kind.kind for kind in ours.moving] == ["logits"]  # the head's rate does not shrink with width
    lr = tiny_config.train.lr
    standard = checked(tiny_spec, tiny_config, tiny_source, lambda width: (lr, 4 * lr))
    trends = {kind.kind: kind.trend for kind in standard.kinds}
    assert not standard.hidden_steady
    assert trends["attention"] == trends["mlp"] == trends["block"] == "grows"
    assert trends["embedding"] == "steady"
    shrunk = checked(tiny_spec, tiny_config, tiny_source, lambda width: (lr, 4 * lr * (8 / width) ** 2))
    assert {kind.trend for kind in shrunk.kinds if kind.kind in ("mlp", "block")} == {"vanishes"}


@pytest.mark.parametrize("family", ["gpt", "hf:gpt2", "hf:gpt_neox", "hf:llama"])
def test_every_kind_is_found_in_every_family(family, tiny_spec, tiny_config, tiny_source):
    model = tiny_config.model.model_copy(update={"family": family})
    config = tiny_config.model_copy(update={"model": model})
    spec = spec_of(tiny_spec, config, 16, 0, lambda width: learning_rates(config.train, width))
    table = measure_coordinates(spec, tiny_source, CPU, 2)
    assert list(table[table["step"] == 0]["kind"]) == ["embedding", "attention", "mlp", "block", "logits"]
    assert list(table["step"].unique()) == [0, 1, 2]
    assert (table["size"] > 0).all()
    assert (table[table["step"] == 0]["change"] == 0).all()
    assert (table[table["step"] > 0]["change"] > 0).all()


def test_sizes_are_root_mean_squares_of_what_the_network_gives(tiny_spec, tiny_config, tiny_source):
    spec = spec_of(tiny_spec, tiny_config, 16, 3, lambda width: (0.0, 0.0))
    table = measure_coordinates(spec, tiny_source, CPU, 1)
    network = find_family("gpt").build(spec.shape, 3)
    windows = torch.as_tensor(tiny_source.validation()[:32]).long()
    with torch.no_grad():
        logits = network(windows[:, :-1])
        embedded = network.embed(windows[:, :-1])
    for kind, tensor in (("logits", logits), ("embedding", embedded)):
        found = table[(table["kind"] == kind) & (table["step"] == 0)]["size"].item()
        assert found == pytest.approx(float(tensor.double().square().mean().sqrt()), rel=1e-6)
    assert (table["change"] == 0).all()  # nothing learns at rate 0


def test_planted_slopes_are_found():
    found = judge_coordinates(coordinate_table({"block": 0.0, "mlp": 1.0, "attention": -0.7, "logits": 0.25}))
    slopes = {kind.kind: (round(kind.change_slope, 9), kind.trend) for kind in found.kinds}
    assert slopes == {
        "block": (0.0, "steady"),
        "mlp": (1.0, "grows"),
        "attention": (-0.7, "vanishes"),
        "logits": (0.25, "steady"),
    }
    assert (found.widths, found.seeds, found.steps) == ((16, 32, 64), 3, 5)
    assert not found.hidden_steady
    assert {kind.kind for kind in found.moving} == {"mlp", "attention"}


def test_growing_logits_are_told_and_are_not_the_hidden_rules_fault():
    found = judge_coordinates(coordinate_table({"block": 0.05, "logits": 0.8}, noise=0.02))
    assert found.hidden_steady
    assert [kind.kind for kind in found.moving] == ["logits"]
    assert 0 < found.kinds[0].error < 0.1
