import math

import numpy as np
import pytest
import torch

from testbed.config import Model, load_config
from testbed.errors import ConfigError
from testbed.training.executors import choose_packs
from testbed.training.models import can_pack, find_family
from testbed.training.models.packed_gpt import PackedGPT
from testbed.training.sweep import makespan, packed, packs, plan
from testbed.training.train import Diverged, Finished, Interruptions, Logged, Measured, Paused, train
from testbed.training.train.learners import make_learner
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.packed_learner import PackedLearner
from tests.helpers.single_runs import CPU, alone, losses, pack_of, train_one, weights


def shape_of(width, depth=2, head_size=8, vocab_size=32, seq_len=32):
    return find_family("gpt").shape(width, Model(head_size=head_size, depth=depth), vocab_size, seq_len)


def draws(runs, rows, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, shape.vocab_size, (runs, rows, shape.seq_len + 1), generator=generator)


# --- the derived gradients ----------------------------------------------------------------------


@pytest.mark.parametrize("first_scored", [0, 2])
@pytest.mark.parametrize("seq_len", [16, 72, 130], ids=["one block", "ragged blocks", "fused attention"])
@pytest.mark.parametrize("runs", [1, 3])
def test_gradients_and_losses_are_those_of_autograd(runs, seq_len, first_scored):
    shape = shape_of(16, seq_len=seq_len)
    windows = draws(runs, 4, shape)
    network = PackedGPT(shape, tuple(range(runs)), CPU)
    for gradient in network.gradients:
        gradient.fill_(math.nan)  # whatever they held
    learned = network.learn(windows, first_scored)
    for run in range(runs):
        single = find_family("gpt").build(shape, run)
        logits = single(windows[run, :, :-1])[:, first_scored:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[run, :, first_scored + 1 :].flatten())
        loss.backward()
        assert float(learned[run]) == pytest.approx(float(loss.detach()), rel=1e-6)
        for name, parameter in single.named_parameters():
            found = network.g[name][run]
            assert float((found - parameter.grad).abs().max()) < 3e-6 * float(parameter.grad.abs().max()), name


def test_weights_are_drawn_as_for_a_run_by_itself():
    shape = shape_of(24)
    network = PackedGPT(shape, (5, 7), CPU)
    for run, seed in enumerate((5, 7)):
        single = dict(find_family("gpt").build(shape, seed).named_parameters())
        assert network.weights(run).keys() == single.keys()
        assert all(torch.equal(network.weights(run)[name], weight) for name, weight in single.items())


def test_runs_of_a_pack_do_not_touch_each_other():
    shape = shape_of(16)
    windows = draws(3, 4, shape)
    network = PackedGPT(shape, (0, 1, 2), CPU)
    network.learn(windows, 0)
    before = [{name: g[run].clone() for name, g in network.g.items()} for run in (0, 2)]
    other = PackedGPT(shape, (0, 9, 2), CPU)
    other.other[1] = math.nan  # a run that has diverged
    windows[1] = 0
    losses_with_nan = other.learn(windows, 0)
    assert math.isnan(losses_with_nan[1])
    for run, gradients in zip((0, 2), before, strict=True):
        assert all(torch.equal(other.g[name][run], g) for name, g in gradients.items())


def test_bf16_products_stay_near_fp32():
    shape = shape_of(32)
    windows = draws(2, 8, shape)
    exact, rounded = PackedGPT(shape, (0, 1), CPU), PackedGPT(shape, (0, 1), CPU, bf16=True)
    assert exact.learn(windows, 0) == pytest.approx(rounded.learn(windows, 0), rel=2e-3)
    for a, b in zip(exact.gradients, rounded.gradients, strict=True):
        assert a.dtype == b.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(a, b, dim=1).min() > 0.999


# --- training ---------------------------------------------------------------------------------


def test_the_first_steps_are_those_of_the_runs_alone(tiny_spec, tiny_source):
    pack = pack_of(tiny_spec.model_copy(update={"clip": 0.3}), 3)  # a clip that bites
    together = PackedLearner(pack, tiny_source, CPU)
    singles = [ModuleLearner(alone(spec), tiny_source, CPU) for spec in pack]
    for step in range(10):
        for learner in (together, *singles):
            learner.optimise(step, (step + 1) / 10)
    assert together.loss_sums() == pytest.approx([s.loss_sums()[0] for s in singles], rel=2e-6)
    assert together.validate() == pytest.approx([s.validate()[0] for s in singles], rel=2e-6)
    for run, single in enumerate(singles):
        found = together.weights(run)
        for name, weight in single.weights(0).items():
            torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_whole_packed_runs_end_within_seed_noise_of_their_twins(tiny_spec, tiny_source, tmp_path):
    pack = pack_of(tiny_spec, 3, lr=tiny_spec.lr, lr_hidden=tiny_spec.lr_hidden)
    folders = tuple(tmp_path / str(run) for run in range(3))
    events = list(train(pack, tiny_source, folders, CPU))
    assert isinstance(events[-1], Finished)
    assert (events[-1].steps, events[-1].tokens) == (tiny_spec.steps, tiny_spec.tokens)
    ends = {0: [], 1: []}
    for run, spec in enumerate(pack):
        twin = losses(train_one(alone(spec), tiny_source, tmp_path / f"alone{run}", CPU))
        mine = losses(e.evaluation for e in events if isinstance(e, Logged) and e.run == run)
        unlike = ("loss", "train_loss")
        assert [{k: v for k, v in e.items() if k not in unlike} for e in mine] == [
            {k: v for k, v in e.items() if k not in unlike} for e in twin
        ]
        ends[0].append(mine[-1]["loss"])
        ends[1].append(twin[-1]["loss"])
        assert weights(folders[run]).keys() == weights(tmp_path / f"alone{run}").keys()
    difference = np.abs(np.subtract(ends[0], ends[1])).max()
    assert difference < np.std(ends[1], ddof=1) / 3


@pytest.mark.parametrize("runs", [1, 3])
def test_a_pack_is_repeatable_and_goes_on_bit_for_bit(tiny_spec, tiny_source, tmp_path, runs):
    pack = pack_of(tiny_spec.model_copy(update={"horizons": tiny_spec.horizons[:2]}), runs)

    def folders(name):
        return tuple(tmp_path / name / str(run) for run in range(runs))

    def logged(events):
        return [(e.run, e.evaluation.model_dump(exclude={"seconds"})) for e in events if isinstance(e, Logged)]

    undisturbed = logged(train(pack, tiny_source, folders("a"), CPU))
    assert logged(train(pack, tiny_source, folders("b"), CPU)) == undisturbed
    events, count = [], 0
    while not any(isinstance(e, Finished) for e in events):
        asked = iter(range(11))
        recorded = tuple(
            frozenset(e.evaluation.key for e in events if isinstance(e, Logged) and e.run == run) for run in range(runs)
        )
        stop = Interruptions(lambda asked=asked: next(asked, None) is None)
        try:
            for event in train(pack, tiny_source, folders("c"), CPU, recorded, stop):
                events += [event]
        except Paused:
            count += 1
    assert count > 4
    assert logged(events) == undisturbed
    for a, c in zip(folders("a"), folders("c"), strict=True):
        assert all(torch.equal(w, weights(c)[name]) for name, w in weights(a).items())


def test_a_run_that_diverges_leaves_the_others_as_they_were(tiny_spec, tiny_source, tmp_path):
    pack = pack_of(tiny_spec.model_copy(update={"horizons": tiny_spec.horizons[:1], "clip": None}), 3)
    broken = (pack[0], pack[1].model_copy(update={"lr": 1e20, "lr_hidden": 1e20}), pack[2])

    def ends(specs, name):
        events = list(train(specs, tiny_source, tuple(tmp_path / name / str(r) for r in range(3)), CPU))
        diverged = [e.run for e in events if isinstance(e, Diverged)]
        return diverged, {e.run: e.evaluation.loss for e in events if isinstance(e, Logged)}

    _, healthy = ends(pack, "healthy")
    diverged, rest = ends(broken, "broken")
    assert diverged == [1]
    assert {run: rest[run] for run in (0, 2)} == pytest.approx({run: healthy[run] for run in (0, 2)}, rel=1e-5)


# --- which runs are packed ----------------------------------------------------------------------


def test_pack_size_is_part_of_a_runs_identity(tiny_spec):
    ids = {packed((tiny_spec,) * 4, largest)[0].run_id for largest in (None, 1, 2, 4)}
    assert len(ids) == 4


@pytest.mark.parametrize(("runs", "largest", "sizes"), [(5, 3, [3, 2]), (6, 4, [3, 3]), (7, 3, [3, 2, 2]), (2, 9, [2])])
def test_packs_are_as_even_as_can_be(tiny_spec, runs, largest, sizes):
    specs = packed([tiny_spec.model_copy(update={"init_seed": seed}) for seed in range(runs)], largest)
    made = packs(specs)
    assert sorted(map(len, made), reverse=True) == sizes
    assert sorted(spec.init_seed for pack in made for spec in pack) == list(range(runs))
    assert all(spec.engine.pack == len(pack) for pack in made for spec in pack)


def test_runs_of_different_shapes_or_horizons_are_never_packed(tiny_config, tiny_source, tiny_spec):
    grid = packed(plan(tiny_config, tiny_source.facts).grid, 100)
    assert all(len({spec.shape.width for spec in pack}) == 1 for pack in packs(grid))
    shorter = tiny_spec.model_copy(update={"horizons": tiny_spec.horizons[:1], "init_seed": 1})
    assert len(packs(packed((tiny_spec, shorter), 2))) == 2


def as_if_measured(packs, source, device):
    """A step of a run alone takes a second; of runs side by side half a second each, and .2 s for all."""
    return [Measured(1.0 if pack[0].engine.pack is None else 0.2 + 0.5 * len(pack), 0.0, memory=None) for pack in packs]


def test_the_plan_takes_the_packs_that_end_first(tiny_config, tiny_source, monkeypatch):
    monkeypatch.setattr("testbed.training.executors.pack_choice.measure", as_if_measured)
    made = plan(tiny_config, tiny_source.facts)
    auto = tiny_config.train.model_copy(update={"pack": "auto"})
    table = choose_packs(made, auto, lambda spec: tiny_source, CPU, workers=1)
    grid_packs = packs(table.plan.grid)
    assert [spec.init_seed for spec in table.plan.runs] == [spec.init_seed for spec in made.runs]
    assert all(len(pack) == 2 for pack in grid_packs)  # two seeds a width, and one worker: overhead is shared
    assert sum(table.run_seconds[spec.run_id] for spec in table.plan.grid) == pytest.approx(table.grid_seconds)
    assert sum("2 runs side by side" in sentence for sentence in table.sentences) == 4
    wide = choose_packs(made, auto, lambda spec: tiny_source, CPU, workers=64)
    assert all(
        len(pack) == 1 for pack in packs(wide.plan.target)
    )  # a worker for each run: nothing is won by sharing one
    assert any("separately" in sentence for sentence in wide.sentences)


@pytest.mark.parametrize(
    "overrides",
    [("train.pack=4", "model.family=hf:gpt2"), ("train.pack=4", "train.micro_rows=2")],
)
def test_packs_that_cannot_be_are_refused(tiny_toml, tiny_source, overrides):
    with pytest.raises(
        ConfigError, match=r"train\.pack: found \d+, but runs of width 8 cannot .* \"auto\" or \"none\""
    ):
        plan(load_config(tiny_toml, overrides), tiny_source.facts)


def test_a_packs_logits_stay_under_a_gigabyte(tiny_spec):
    large = tiny_spec.model_copy(update={"batch_tokens": 2**20})  # 2^25 logits a run
    assert [can_pack(packed([large] * runs, runs)[0]) for runs in (1, 2, 3)] == [True, True, False]


def test_the_last_worker_done_is_reckoned_with_the_longest_first():
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([5], 4) == 5


def test_the_learner_is_the_one_that_the_spec_names(tiny_spec, tiny_source):
    assert isinstance(make_learner(packed((tiny_spec,), 1), tiny_source, CPU), PackedLearner)
    assert isinstance(make_learner((alone(tiny_spec),), tiny_source, CPU), ModuleLearner)


def test_losses_of_a_pack_do_not_depend_on_rows_at_a_time(tiny_source, tiny_spec, monkeypatch):
    network = PackedGPT(tiny_spec.shape, (0, 1), CPU)
    windows = torch.as_tensor(tiny_source.validation().astype(np.int64))
    whole = network.losses(windows, 1)
    monkeypatch.setattr("testbed.training.models.packed_gpt._LOGITS", 1)
    assert network.losses(windows, 1) == pytest.approx(whole, rel=1e-7)
