import math
import re

import numpy as np
import pytest
import torch

from testbed.config import Data
from testbed.records import Component, Eval, Horizon
from testbed.training.data import open_source
from testbed.training.models import find_family
from testbed.training.recipe import schedule_of
from testbed.training.train import Diverged, Finished, Interruptions, Paused, Progress, train
from testbed.training.train.checkpoints.checkpoint import read_cursor
from testbed.training.train.evaluation import bits_per_byte, validation_loss
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.optimizer import make_optimizer
from testbed.training.train.scoring import token_losses
from tests.helpers.single_runs import CPU, StopAfter, losses, train_one, weights

lr_factor = schedule_of(Component(name="wsd")).factor
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
)


def interrupted(spec, source, folder, every, device=CPU):
    """The run stopped every so many steps and started again from its checkpoint, until it is finished."""
    events, starts = [], 0
    while True:
        starts += 1
        recorded = frozenset(e.key for e in events if isinstance(e, Eval))
        try:
            run = train_one(spec, source, folder, device, recorded, Interruptions(StopAfter(every)))
            while True:
                events.append(next(run))
        except StopIteration:
            return events, starts
        except Paused:
            continue


# --- what is trained --------------------------------------------------------------------------


def test_a_run_does_what_its_spec_says(tiny_spec, tiny_source, tmp_path):
    events = list(train_one(tiny_spec, tiny_source, tmp_path, CPU))
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.steps, end.tokens) == (tiny_spec.steps, tiny_spec.tokens)
    evals = [e for e in events if isinstance(e, Eval)]
    assert [(e.horizon, e.tokens) for e in evals if e.phase == "annealed"] == [
        (h.tokens, h.tokens) for h in tiny_spec.horizons
    ]
    assert [e.step for e in evals if e.phase == "stable"] == list(tiny_spec.trunk_evals)
    for e in evals:
        assert e.tokens == e.step * tiny_spec.batch_tokens
        assert e.flops == e.tokens * tiny_spec.counts.flops_per_token
    for h in tiny_spec.horizons:
        inside = [e.step for e in evals if e.horizon == h.tokens]
        assert inside == list(h.eval_steps(tiny_spec.branch_evals))


def test_training_lowers_the_loss_and_annealing_lowers_it_further(tiny_spec, tiny_source, tmp_path):
    evals = [e for e in train_one(tiny_spec, tiny_source, tmp_path, CPU) if isinstance(e, Eval)]
    stable = [e.loss for e in evals if e.phase == "stable"]
    assert stable[-1] < stable[0] < math.log(tiny_spec.shape.vocab_size) + 0.1
    last = [e for e in evals if e.horizon == tiny_spec.horizons[-1].tokens]
    assert last[-1].loss < stable[-1]


def test_the_tokens_seen_are_the_rows_of_the_source(tiny_spec, tiny_source, tmp_path):
    seen = []

    class Watched:
        facts = tiny_source.facts
        validation = tiny_source.validation

        def rows(self, seed, start, count):
            seen.append((seed, start, count))
            return tiny_source.rows(seed, start, count)

    spec = tiny_spec.model_copy(update={"horizons": tiny_spec.horizons[-1:], "data_seed": 5})
    list(train_one(spec, Watched(), tmp_path, CPU))
    rows_per_step = spec.batch_tokens // spec.shape.seq_len
    assert all(seed == 5 for seed, _, _ in seen)
    starts = [start for _, start, _ in seen]
    assert starts == sorted(set(starts))
    assert sum(count for _, _, count in seen) * spec.shape.seq_len >= spec.steps * rows_per_step * spec.shape.seq_len


# --- bit for bit on one thread ------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_two_runs_of_one_seed_are_the_same(tiny_spec, tiny_source, tmp_path, device):
    device = torch.device(device)
    first = losses(train_one(tiny_spec, tiny_source, tmp_path / "a", device))
    second = losses(train_one(tiny_spec, tiny_source, tmp_path / "b", device))
    assert first == second
    assert all(torch.equal(a, weights(tmp_path / "b")[name]) for name, a in weights(tmp_path / "a").items())


@pytest.mark.slow
def test_another_seed_gives_another_run(tiny_spec, tiny_source, tmp_path):
    first = losses(train_one(tiny_spec, tiny_source, tmp_path / "a", CPU))
    for change in ({"init_seed": 5}, {"data_seed": 5}):
        other = losses(train_one(tiny_spec.model_copy(update=change), tiny_source, tmp_path / str(change), CPU))
        assert all(a["loss"] != b["loss"] for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_a_branch_is_the_separately_trained_run(tiny_spec, tiny_source, tmp_path):
    together = losses(train_one(tiny_spec, tiny_source, tmp_path / "all", CPU))
    for horizon in tiny_spec.horizons:
        alone_spec = tiny_spec.model_copy(update={"horizons": (horizon,), "trunk_evals": (horizon.branch_step,)})
        alone = losses(train_one(alone_spec, tiny_source, tmp_path / str(horizon.tokens), CPU))
        branch = [e["loss"] for e in together if e["horizon"] == horizon.tokens]
        assert [e["loss"] for e in alone if e["horizon"] == horizon.tokens] == branch


@pytest.mark.parametrize("every", [1, 7, 37, 100])
@pytest.mark.slow
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(tiny_spec, tiny_source, tmp_path, every):
    undisturbed = losses(train_one(tiny_spec, tiny_source, tmp_path / "a", CPU))
    events, starts = interrupted(tiny_spec, tiny_source, tmp_path / "b", every)
    assert starts >= tiny_spec.steps // (every + 1)
    assert losses(events) == undisturbed
    assert (events[-1].steps, events[-1].tokens) == (tiny_spec.steps, tiny_spec.tokens)
    assert all(torch.equal(a, weights(tmp_path / "b")[name]) for name, a in weights(tmp_path / "a").items())


@pytest.mark.parametrize("name", ["hf:gpt2", "hf:llama"])
def test_transformers_families_train_and_resume_the_same_way(tiny_spec, tiny_source, tmp_path, name):
    shape = tiny_spec.shape.model_copy(update={"family": name, "width": 16, "heads": 2})
    spec = tiny_spec.model_copy(
        update={"shape": shape, "counts": find_family(name).counts(shape), "horizons": tiny_spec.horizons[:2]}
    )
    undisturbed = losses(train_one(spec, tiny_source, tmp_path / "a", CPU))
    assert losses(interrupted(spec, tiny_source, tmp_path / "b", 33)[0]) == undisturbed
    assert undisturbed[-1]["loss"] < undisturbed[0]["loss"]


def test_a_checkpoint_falls_due_by_the_clock(tiny_spec, tiny_source, tmp_path):
    run = train_one(tiny_spec, tiny_source, tmp_path, CPU, interruptions=Interruptions(checkpoint_seconds=0.0))
    for event in run:
        if isinstance(event, Eval) and event.step >= 5:
            break
    cursor = read_cursor(tmp_path / "trunk.safetensors", tiny_spec.run_id)
    assert cursor.step == 4  # the last whole step before the evaluation
    assert cursor.spent_tokens == 4 * tiny_spec.batch_tokens


# --- the recipe -------------------------------------------------------------------------------


def test_the_schedule_warms_up_stays_and_decays_to_almost_nothing():
    horizon = Horizon(tokens=100, steps=100, branch_step=80)
    trunk = [lr_factor(step, 10, None) for step in range(100)]
    branch = [lr_factor(step, 10, horizon) for step in range(100)]
    assert trunk[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert set(trunk[9:]) == {1.0}
    assert branch[:80] == trunk[:80]
    assert branch[80:] == pytest.approx(1 - np.arange(1, 21) / 21)
    assert lr_factor(0, 0, None) == 1.0


def test_the_optimiser_decays_and_rescales_hidden_matrices_only(tiny_spec):
    family = find_family("gpt")
    network = family.build(tiny_spec.shape, 0)
    hidden = family.hidden_matrices(network)
    optimizer = make_optimizer(network, hidden, tiny_spec)
    by_id = {id(p): n for n, p in network.named_parameters()}
    scaled, plain = ({by_id[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert scaled == hidden
    assert plain == set(by_id.values()) - hidden
    assert [g["peak"] for g in optimizer.param_groups] == [tiny_spec.lr_hidden, tiny_spec.lr]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [tiny_spec.weight_decay, 0.0]


def test_one_step_is_torchs_adamw_after_clipping(tiny_spec, tiny_source, tmp_path):
    spec = tiny_spec.model_copy(update={"clip": 0.1, "warmup_steps": 0})
    learner = ModuleLearner(spec, tiny_source, CPU)
    family = find_family("gpt")
    network = family.build(spec.shape, spec.init_seed)
    hidden = family.hidden_matrices(network)
    named = dict(network.named_parameters())
    plain = torch.optim.AdamW(
        [
            {
                "params": [named[n] for n in named if n in hidden],
                "lr": spec.lr_hidden,
                "weight_decay": spec.weight_decay,
            },
            {"params": [named[n] for n in named if n not in hidden], "lr": spec.lr, "weight_decay": 0.0},
        ],
        betas=spec.betas,
        foreach=False,
    )
    for step in range(3):
        learner.optimise(step, 1.0)
        windows = torch.as_tensor(tiny_source.rows(spec.data_seed, 8 * step, 8).astype(np.int64))
        logits = network(windows[:, :-1])
        skip = spec.data.first_scored
        loss = torch.nn.functional.cross_entropy(logits[:, skip:].flatten(0, 1), windows[:, skip + 1 :].flatten())
        plain.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        plain.step()
    for name, parameter in learner.network.named_parameters():
        torch.testing.assert_close(parameter, named[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_bf16_autocast_keeps_fp32_weights(tiny_spec, tiny_source, tmp_path, device):
    spec = tiny_spec.model_copy(update={"precision": "bf16", "horizons": tiny_spec.horizons[:1]})
    exact = losses(
        train_one(spec.model_copy(update={"precision": "fp32"}), tiny_source, tmp_path / "a", torch.device(device))
    )
    rounded = losses(train_one(spec, tiny_source, tmp_path / "b", torch.device(device)))
    assert rounded[-1]["loss"] == pytest.approx(exact[-1]["loss"], rel=0.01)
    assert rounded[-1]["loss"] != exact[-1]["loss"]
    assert all(w.dtype == torch.float32 for w in weights(tmp_path / "b").values())


def test_a_loss_that_is_not_finite_fails_with_its_step(tiny_spec, tiny_source, tmp_path):
    spec = tiny_spec.model_copy(update={"lr": 1e12, "lr_hidden": 1e12, "clip": None})
    *_, end = train_one(spec, tiny_source, tmp_path, CPU)
    assert isinstance(end, Diverged)
    assert re.search(r"not finite by step \d+ \(\d+ tokens\); lower train\.lr", end.reason)
    assert not (tmp_path / "weights.safetensors").exists()


# --- the evaluation ---------------------------------------------------------------------------


def test_the_validation_loss_does_not_depend_on_the_batch(tiny_spec, tiny_source):
    network = find_family("gpt").build(tiny_spec.shape, 0)
    windows = torch.as_tensor(tiny_source.validation().astype(np.int64))
    whole = validation_loss(network, windows, tiny_spec.data, bf16=False)
    for rows in (1, 5, 7, 63, 64, 1000):
        assert validation_loss(network, windows, tiny_spec.data, False, rows) == pytest.approx(whole, rel=1e-7)


def test_the_validation_loss_is_the_mean_over_scored_tokens(tiny_spec, tiny_source):
    network = find_family("gpt").build(tiny_spec.shape, 0)
    windows = torch.as_tensor(tiny_source.validation().astype(np.int64))
    with torch.no_grad():
        logp = network(windows[:, :-1]).double().log_softmax(-1)
    nll = -logp.gather(-1, windows[:, 1:, None])[..., 0][:, tiny_spec.data.first_scored :]
    assert nll.numel() == tiny_spec.data.val_tokens
    assert validation_loss(network, windows, tiny_spec.data, False) == pytest.approx(float(nll.mean()), rel=1e-6)


def test_targets_without_their_whole_context_are_not_scored():
    logits = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    windows = torch.randint(0, 5, (3, 9))
    assert token_losses(logits, windows, 2).numel() == 3 * 6
    changed = windows.clone()
    changed[:, 1:3] = (changed[:, 1:3] + 1) % 5  # the targets of positions 0 and 1
    assert torch.equal(token_losses(logits, windows, 2), token_losses(logits, changed, 2))


@pytest.mark.slow
def test_bits_per_byte(text_folder):
    plain = open_source(Data(source=f"text:{text_folder}", seq_len=64, val_windows=32)).facts
    assert bits_per_byte(math.log(2), plain) == pytest.approx(1.0)
    merged = open_source(
        Data(source=f"text:{text_folder}", seq_len=64, val_windows=32, tokenizer="bpe", vocab_size=500)
    ).facts
    assert bits_per_byte(math.log(2), merged) == pytest.approx(merged.val_tokens / merged.val_bytes)
    assert bits_per_byte(1.0, plain.model_copy(update={"val_bytes": None})) is None


def test_progress_never_goes_back(tiny_spec, tiny_source, tmp_path, monkeypatch):
    monkeypatch.setattr("testbed.training.train.loop._PROGRESS_SECONDS", 0.0)
    events = train((tiny_spec,), tiny_source, (tmp_path,), CPU)
    steps = [event.steps for event in events if isinstance(event, Progress)]
    assert steps == sorted(steps)
    assert steps[-1] == tiny_spec.steps
