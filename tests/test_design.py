from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.analysis.design import (
    Candidates,
    Noise,
    largest_run,
    lattice,
    noise_between,
    one_by_one,
    optimal,
    prior_belief,
    suggest_from_fit,
    suggest_from_prior,
)
from testbed.analysis.design.posterior import posterior_belief
from testbed.analysis.design.prior import PUBLISHED, draws
from testbed.analysis.fit import fit_law
from testbed.analysis.fit.prediction.discrepancy import Covariance
from testbed.analysis.fit.prediction.kriging import Kriging, krige
from testbed.analysis.laws import LAWS
from testbed.config import Config, check_config, load_config
from testbed.errors import ConfigError
from testbed.study import Study, settle
from testbed.study.grid_design import candidates_of, rung_specs, target_columns
from testbed.training.data import TokenSource
from testbed.training.store import SweepFolder
from testbed.training.sweep import plan, rungs
from tests.helpers.planted_sweep import TRUTH, planted_points

NOISE = Noise(0.003, 0.002)
TARGET = {"n": 1e6, "tokens": 3e7, "flops": 6e6 * 3e7}


def small(branches: bool = True) -> Candidates:
    n = np.array([1e4, 5e4, 2e5, 5e5])
    tokens = np.tile([1e6, 3e6, 1e7], (4, 1))
    return Candidates((1, 2, 3, 4), n, 6 * n, tokens, 0.2 * tokens, branches)


def grid_fit(seed: int = 0, noise: float = 0.005):
    points = planted_points("hoffmann", noise=noise, seed=seed).query("role == 'grid'")
    return fit_law("hoffmann", points, columns={"n": "n_params_non_embedding"}, delta=0.01, n_boot=0)


# --- what runs cost ---------------------------------------------------------------------------------


def test_a_run_costs_what_its_plan_says_with_the_trunk_paid_once(tiny_config: Config, tiny_source: TokenSource) -> None:
    specs = rung_specs(tiny_config, tiny_source.facts)
    candidates = candidates_of(specs)
    for rung, spec in enumerate(specs):
        whole = tuple(range(len(spec.horizons)))
        assert candidates.cost(rung, whole) == spec.flops
        alone = sum(candidates.cost(rung, (h,)) for h in whole)
        assert candidates.cost(rung, whole) < alone
        assert candidates.cost(rung, (2,)) == spec.horizons[2].tokens * spec.counts.flops_per_token


def test_no_option_is_beyond_the_largest_run_and_without_branches_each_has_one_horizon() -> None:
    largest = largest_run(TARGET["flops"])
    columns = small().columns["flops"]
    branched, alone = small().options(largest), small(branches=False).options(largest)
    assert all(columns[list(option.cells)].max() <= largest for option in branched + alone)
    assert {len(option.cells) for option in alone} == {1} and len(branched) > len(alone)
    with pytest.raises(ConfigError, match="no candidate run costs 1e"):
        small().options(1e6)


# --- what is believed ---------------------------------------------------------------------------------


def test_the_belief_of_a_fit_is_its_own_prediction_interval() -> None:
    fit = grid_fit()
    known = posterior_belief(fit, small(), TARGET)
    predicted = fit.get_prediction({"n": [TARGET["n"]], "tokens": [TARGET["tokens"]]})
    assert known.belief.sd == pytest.approx(np.hypot(predicted.sd_obs, predicted.sd_extrapolation * 0)[0], rel=1e-6)


def test_what_a_run_takes_off_is_what_kriging_finds_once_it_is_done() -> None:
    """The parameters and the sizes held, the target's variance with one more row, by conditioning on all rows anew."""
    fit = grid_fit()
    kriging, candidates = krige(fit), small(branches=False)
    option = candidates.option(3, (2,))
    known = posterior_belief(fit, candidates, TARGET, count=1)
    one = replace(known.belief, covariance=_at_estimate(fit, kriging, candidates), scale=1.0, new=0.0, reached=99.0)
    after = one.after(option)
    n, tokens = float(candidates.n[3]), float(candidates.tokens[3, 2])
    raw = {
        "n": np.append(fit.rows.columns["n"], n),
        "tokens": np.append(fit.rows.columns["tokens"], tokens),
    }
    covariance = Covariance(
        at=kriging.domain.coordinates(raw),
        shared=np.pad(kriging.covariance.shared, (0, 1)) + np.diag(np.r_[np.zeros(len(fit.rows.y)), 1.0]),
        weights=np.append(kriging.covariance.weights, 1.0),
        known=np.append(kriging.covariance.known, 0.0),
        unit=1.0,
    )
    information = kriging.solved.factor @ kriging.solved.factor.T
    slopes = kriging.coordinates.slopes(kriging.phi[None], fit.problem.columns)[0]
    precision = np.diagonal(information - slopes @ kriging.solved.across)
    more = Kriging.of(
        kriging.coordinates,
        raw,
        np.append(fit.rows.y, 0.0),
        kriging.phi,
        precision,
        kriging.domain,
        covariance,
        kriging.sizes,
    )
    at = {"n": np.array([TARGET["n"]]), "tokens": np.array([TARGET["tokens"]])}
    _, parameters, misfit = more.predict(at, kriging.domain.coordinates(at))
    assert after.variance == pytest.approx(
        parameters[0] + misfit[0], rel=1e-2
    )  # kriging adds a noise of 5e-4 to each row


def _at_estimate(fit, kriging, candidates):
    from testbed.analysis.design.posterior import _joint

    cells = candidates.columns
    raw = {name: np.append(cells[name], TARGET[name]) for name in ("n", "tokens")}
    return _joint(fit, kriging, raw, 0, 0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 27), min_size=1, max_size=6), st.integers(1, 5))
def test_runs_never_widen_and_seeds_at_once_are_seeds_one_by_one(numbers: list[int], seeds: int) -> None:
    candidates = small()
    belief = prior_belief(("hoffmann",), candidates, TARGET, NOISE, count=4)
    options = candidates.options(np.inf)
    for number in numbers:
        option = options[number]
        told = belief.variances([option], np.array([float(seeds)]))[0]
        after = belief.after(option, seeds)
        assert told == pytest.approx(after.variance, rel=1e-9)
        assert after.variance <= belief.variance * (1 + 1e-9)
        one_by = belief
        for _ in range(seeds):
            one_by = one_by.after(option)
        assert one_by.variance == pytest.approx(after.variance, rel=1e-6)
        belief = after


def test_the_prior_spreads_wider_than_the_published_laws() -> None:
    drawn = draws(4000, small().columns)
    published = np.log(np.array(list(PUBLISHED.values())))
    for k, name in enumerate(("alpha", "beta")):
        assert np.log(drawn[name]).mean() == pytest.approx(published[:, k].mean(), abs=0.05)
        assert np.log(drawn[name]).std() == pytest.approx(1.5 * published[:, k].std(ddof=1), rel=0.08)
    assert (drawn["E"] > 0.09).all()


def test_noise_is_split_into_what_a_run_shares_and_the_rest() -> None:
    points = planted_points("hoffmann", noise=0.01, seeds=60, seed=3).query("role == 'grid'")
    found = noise_between(points, "n_params_non_embedding")
    assert found is not None
    assert found.run == pytest.approx(0.009, rel=0.15) and found.row == pytest.approx(0.004, rel=0.15)
    assert noise_between(points.drop_duplicates(["n_params_non_embedding", "tokens"]), "n_params_non_embedding") is None


# --- what is chosen ---------------------------------------------------------------------------------


def test_the_optimal_grid_is_the_best_of_all_grids() -> None:
    candidates = replace(small(), tokens=small().tokens[:, :2], cooldown=small().cooldown[:, :2])
    belief = prior_belief(("hoffmann",), candidates, TARGET, NOISE, count=4)
    budget = 4.5e13
    taken = optimal(belief, candidates, TARGET["flops"], budget, least=2, most=3, cells=5)
    blocks = [
        [
            None,
            *(
                (option, k)
                for option in candidates.options(largest_run(TARGET["flops"]))
                if option.rung == rung
                for k in (2, 3)
            ),
        ]
        for rung in range(4)
    ]
    best = np.inf
    for grid in itertools.product(*blocks):
        real = [block for block in grid if block is not None]
        cost = sum(option.flops * k for option, k in real)
        if len(real) >= 3 and sum(len(option.cells) for option, _ in real) >= 5 and cost <= budget:
            after = belief
            for option, k in real:
                after = after.after(option, k)
            best = min(best, after.variance)
    reached, spent = belief, 0.0
    for one in taken:
        option = candidates.option(one.rung, one.horizons)
        reached, spent = reached.after(option, one.seeds), spent + option.flops * one.seeds
    assert spent <= budget
    assert reached.variance <= 1.05 * best
    assert taken == optimal(belief, candidates, TARGET["flops"], budget, least=2, most=3, cells=5)


def test_a_budget_that_buys_no_grid_says_what_the_cheapest_takes() -> None:
    belief = prior_belief(("hoffmann",), small(), TARGET, NOISE, count=2)
    with pytest.raises(ConfigError, match=r"grid\.budget: 1e\+09 FLOPs buy no grid of 3 widths, 8 cells and 3 seeds"):
        optimal(belief, small(), TARGET["flops"], 1e9, least=3, most=6, cells=8)


def test_runs_one_by_one_stay_within_budget_and_beat_random_ones() -> None:
    fit, candidates = grid_fit(), small()
    belief = posterior_belief(fit, candidates, TARGET).belief
    options = candidates.options(largest_run(TARGET["flops"]))
    budget = 6e13
    chosen = one_by_one(belief, options, budget, 3)
    assert 1 <= len(chosen) <= 3 and sum(option.flops for option in chosen) <= budget
    reached = belief
    for option in chosen:
        reached = reached.after(option)
    rng = np.random.default_rng(0)
    for _ in range(60):
        tried, left = belief, budget
        for _ in range(3):
            affordable = [option for option in options if option.flops <= left]
            option = affordable[rng.integers(len(affordable))]
            tried, left = tried.after(option), left - option.flops
        assert tried.variance >= reached.variance * (1 - 1e-3)


def test_suggested_runs_narrow_the_interval_as_much_as_was_expected() -> None:
    law, theta = LAWS["hoffmann"], {name: np.array([[value]]) for name, value in TRUTH["hoffmann"].items()}
    ratios, gains = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        fit = grid_fit(seed)
        found = suggest_from_fit(fit, lattice(fit.rows.columns, TARGET["n"], TARGET["tokens"]), TARGET, budget=4e13)
        rows = [
            {
                "run": f"new-{k}-{i}",
                "n_params_non_embedding": run.n,
                "tokens": run.tokens[0],
                "loss": float(law.value(theta, {"n": np.array([run.n]), "tokens": np.array(run.tokens)})[0, 0])
                * np.exp(0.005 * rng.normal()),
            }
            for k, run in enumerate(found.runs)
            for i in range(run.seeds)
        ]
        points = planted_points("hoffmann", noise=0.005, seed=seed).query("role == 'grid'")
        again = fit_law(
            "hoffmann",
            pd.concat([points, pd.DataFrame(rows)], ignore_index=True),
            columns={"n": "n_params_non_embedding"},
            delta=0.01,
            n_boot=0,
        )
        low, high = again.get_prediction({"n": [TARGET["n"]], "tokens": [TARGET["tokens"]]}).interval()
        ratios.append((np.sqrt(high[0] / low[0]) - 1) / found.after)
        gains.append(found.after / found.half_width)
    assert np.median(gains) < 0.85
    assert 0.75 < np.median(ratios) < 1.25


def test_before_the_first_run_the_prior_suggests() -> None:
    found = suggest_from_prior(["hoffmann"], small(), TARGET, NOISE, budget=3e13, runs=5)
    assert found.predicted is None and found.to_dict()["from"] == "prior"
    widths = [run.half_width for run in found.runs]
    assert widths == sorted(widths, reverse=True) and len({run.name for run in found.runs}) >= 2
    assert found.flops <= 3e13


# --- grid.design = "optimal" ----------------------------------------------------------------------------


OPTIMAL = {"grid.design": "optimal", "grid.budget": '"600G"', "grid.init_seeds": "[0, 1, 2, 3]"}


def test_an_optimal_grid_is_planned_within_its_budget_and_can_be_forecast_from(
    tiny_toml: Path, tiny_source: TokenSource
) -> None:
    changes = _set(OPTIMAL)
    full = plan(load_config(tiny_toml, changes), tiny_source.facts)
    budget = sum(spec.flops for spec in full.grid) * 4 // 5
    config = load_config(tiny_toml, [*changes, f"grid.budget={budget}"])
    source, made = settle(config)
    assert 0.5 * budget < sum(spec.flops for spec in made.grid) <= budget
    kinds: dict[int, set[object]] = {}
    for spec in made.grid:
        kinds.setdefault(spec.shape.width, set()).add(spec.horizons)
    assert len(kinds) == 3 and all(len(horizons) == 1 for horizons in kinds.values())
    assert {spec.init_seed for spec in made.grid} <= {0, 1, 2, 3}
    assert target_columns(config, source.facts)["flops"] == made.target[0].flops
    limit = largest_run(made.target[0].flops)
    assert all(h.tokens * spec.counts.flops_per_token <= limit for spec in made.grid for h in spec.horizons)
    assert [spec.run_id for spec in settle(config)[1].grid] == [spec.run_id for spec in made.grid]


def test_a_grid_without_a_design_keeps_its_hash() -> None:
    """As forecasts were sealed under it before there were designs."""
    config = load_config("configs/quick_synthetic.toml")
    assert config.hash() == "5187e7e3440c78160e6343f37fea919fd5209c959b508bea1d30f68064370504"
    chosen = load_config("configs/quick_synthetic.toml", _set({**OPTIMAL, "grid.budget": '"5T"'}))
    other = load_config("configs/quick_synthetic.toml", _set({**OPTIMAL, "grid.budget": '"6T"'}))
    assert len({config.hash(), chosen.hash(), other.hash()}) == 3
    assert check_config(chosen.model_dump(mode="json", exclude_none=True), "again") == chosen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid.design": "optimal"}, "given together or not at all"),
        ({"grid.budget": '"1T"'}, "given together or not at all"),
        ({**OPTIMAL, "grid.init_seeds": "[0]"}, "at least two"),
        ({**OPTIMAL, "grid.design": "best"}, "grid.design: found 'best'"),
        ({**OPTIMAL, "grid.budget": '"1M"'}, "buy no grid"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(tiny_toml, changes, said) -> None:
    with pytest.raises(ConfigError, match=said):
        settle(load_config(tiny_toml, _set(changes)))


def test_a_design_needs_a_target(tiny_toml, tmp_path) -> None:
    text = tiny_toml.read_text()
    (tmp_path / "none.toml").write_text(text[: text.index("[target]")])
    with pytest.raises(ConfigError, match="is chosen for a target"):
        load_config(tmp_path / "none.toml", _set(OPTIMAL))


def _set(changes: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in changes.items()]


def test_a_folder_keeps_the_design_that_was_chosen_for_it(tiny_toml: Path, tmp_path: Path) -> None:
    config = load_config(tiny_toml, _set(OPTIMAL | {"grid.budget": '"400G"'}))
    study = Study.create(config, tmp_path / "sweep")
    assert rungs(settle(config, tmp_path / "sweep")[1].grid) == rungs(study.grid)
    fewer = [spec for spec in study.folder.specs if spec.init_seed != max(s.init_seed for s in study.grid)]
    other = SweepFolder.create(tmp_path / "other", config, tuple(fewer))  # as a release that chooses otherwise made it
    assert Study.create(config, other.path).folder.specs == other.specs
