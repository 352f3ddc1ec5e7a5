import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.training.data import open_source
from testbed.training.models import find_family
from testbed.training.sweep import learning_rates, plan


@pytest.fixture
def planned(tiny_toml, tiny_source):
    return lambda *overrides: plan(load_config(tiny_toml, overrides), tiny_source.facts)


def test_a_grid_is_widths_by_horizons_by_seeds(planned):
    made = planned("grid.data_seeds=[3, 4]")
    assert len(made.grid) == 3 * 2 * 2
    assert {(s.shape.width, s.init_seed, s.data_seed) for s in made.grid} == {
        (w, i, d) for w in (8, 16, 24) for i in (0, 1) for d in (3, 4)
    }
    assert all([h.tokens for h in s.horizons] == [10_240, 20_480, 40_960] for s in made.grid)
    assert [(s.init_seed, s.data_seed) for s in made.target] == [(7, 3), (8, 3), (7, 4), (8, 4)]


def test_every_run_has_an_order_of_its_own_unless_seeds_are_given(planned):
    runs = planned().runs
    assert len({s.data_seed for s in runs}) == len(runs)
    far = planned(f"grid.init_seeds=[0, 65536, {2**32 - 1}]").grid
    assert len({s.data_seed for s in far}) == len(far)
    assert len({s.data_seed for s in planned("grid.data_seeds=[3]").runs}) == 1
    mixed = planned("grid.data_seeds=[3]", 'target.data_seeds="own"')
    assert {s.data_seed for s in mixed.grid} == {3} and 3 not in {s.data_seed for s in mixed.target}


def test_a_plan_is_a_function_of_its_configuration(planned):
    assert planned() == planned()
    ids = [s.run_id for s in planned().runs]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {s.run_id for s in planned("train.lr=0.005").runs}


def test_steps_and_spent_tokens_follow_from_trunk_and_branches(planned):
    spec = planned().grid[0]
    assert [(h.steps, h.branch_step) for h in spec.horizons] == [(40, 32), (80, 64), (160, 128)]
    assert spec.steps == 128 + 8 + 16 + 32
    assert spec.tokens == spec.steps * 256
    assert spec.flops == spec.tokens * spec.counts.flops_per_token


@given(
    budgets=st.lists(st.integers(2 * 10**9, 10**11), min_size=1, max_size=4, unique_by=lambda f: round(math.log(f), 1))
)
@settings(deadline=None, max_examples=20)
def test_an_isoflop_slice_spends_the_same_compute_at_each_width(tiny_toml, tiny_source, budgets):
    overrides = [f"grid={{widths=[8, 16, 24], flops={budgets}}}", "target.tokens=10_000_000"]
    made = plan(load_config(tiny_toml, overrides), tiny_source.facts)
    for spec in made.grid:
        spent = [h.tokens * spec.counts.flops_per_token for h in spec.horizons]
        for flops, budget in zip(spent, sorted(budgets), strict=True):
            assert (
                abs(flops - budget)
                <= 0.5 * spec.batch_tokens * spec.counts.flops_per_token + spec.counts.flops_per_token
            )


def test_learning_rates_shrink_with_width_in_hidden_matrices_only(tiny_config):
    train = tiny_config.train
    assert learning_rates(train, 32) == (0.006, 0.006)
    assert learning_rates(train, 8) == (0.006, pytest.approx(0.024))
    assert learning_rates(train, 96) == (0.006, pytest.approx(0.002))


@pytest.mark.parametrize(("tokens", "batch"), [("0.25M", 256), ("0.5M", 512), ("4M", 4096), ("10k", 256)])
def test_an_automatic_batch_leaves_a_thousand_steps(planned, tokens, batch):
    overrides = [
        "train.batch_tokens=auto",
        f'grid.tokens=["{tokens}"]',
        "target.tokens=1_000_000_000",
        "train.warmup_steps=2",
    ]
    assert planned(*overrides).grid[0].batch_tokens == batch


def test_trunks_are_evaluated_at_their_branch_points(planned):
    for spec in planned("train.trunk_evals=4").runs:
        assert {h.branch_step for h in spec.horizons} <= set(spec.trunk_evals)
        assert max(spec.trunk_evals) == spec.horizons[-1].branch_step


def test_a_poor_design_is_told(planned):
    warnings = planned().warnings
    assert any("only 40 optimiser steps" in w for w in warnings)
    assert any(w.startswith("N spans only a factor") for w in warnings)
    assert any(w.startswith("D spans only a factor 4") for w in warnings)
    assert any("decades of compute beyond the grid" in w for w in planned('target.tokens="20M"').warnings)


def test_a_good_design_has_no_warning(tiny_toml, tiny_source):
    overrides = [
        'grid.tokens=["0.26M", "1M", "3M"]',
        "grid.widths=[8, 16, 32]",
        "target.width=64",
        'target.tokens="10M"',
    ]
    assert plan(load_config(tiny_toml, overrides), tiny_source.facts).warnings == ()


@pytest.mark.parametrize(
    "overrides",
    [["target.width=16"], ["target.tokens=10_240", "target.width=24"], ["target.width=8", "target.tokens=100_000"]],
)
def test_a_target_inside_the_grid_is_refused(planned, overrides):
    with pytest.raises(ConfigError, match=r"inside the grid .*raise target\.width or target\.tokens"):
        planned(*overrides)


def test_horizons_that_cannot_be_trained_are_refused(planned):
    with pytest.raises(ConfigError, match="no step is left at the full learning rate"):
        planned("grid.tokens=[1024]")
    with pytest.raises(ConfigError, match="two horizons of 40 steps"):
        planned("grid.tokens=[10_240, 10_250]")


def test_a_horizon_beyond_the_data_is_refused_unless_repeats_are_asked_for(tiny_toml, text_folder):
    overrides = [f"data.source=text:{text_folder}", 'target.tokens="100M"']
    config = load_config(tiny_toml, overrides)
    facts = open_source(config.data).facts
    with pytest.raises(
        ConfigError, match=r"target: a horizon of 100000000 tokens is beyond the data: .* holds \d+ training tokens"
    ):
        plan(config, facts)
    assert (
        plan(load_config(tiny_toml, [*overrides, "data.repeat=true"]), facts).target[0].horizons[0].tokens
        == 100_000_000 // 256 * 256
    )


def test_counts_in_a_plan_are_the_familys(planned):
    for spec in planned().runs:
        assert spec.counts == find_family("gpt").counts(spec.shape)
