"""Runs that diverge: failed with step and reason, tried again where asked for, and fits that say what they lack."""

import json
import math
import re
import shutil

import pytest

from testbed.analysis.report.study import sentences as words
from testbed.config import load_config
from testbed.errors import ConfigError, RunFailed
from testbed.files import digest
from testbed.records import Eval, Forecast, as_json
from testbed.study import Study
from testbed.training.store import SweepFolder
from testbed.training.train import Diverged, Finished, Interruptions, Paused
from testbed.training.train.divergence import ABOVE, LONG
from tests.helpers.command_line import command
from tests.helpers.single_runs import CPU, StopAfter, losses, pack_of, train_one
from tests.helpers.sweeps import Quiet, fresh

pytestmark = pytest.mark.usefixtures("warm")

FAST = ("grid.tokens=[5_120, 10_240, 20_480]", "target.tokens=40_960", "execution.workers=1")


@pytest.fixture(scope="module")
def long_spec(tiny_toml, tiny_source):
    from testbed.training.sweep import plan

    config = load_config(tiny_toml, ["grid.tokens=[51_200]", "target.tokens=409_600", 'train.pack="none"'])
    return plan(config, tiny_source.facts).grid[0]


def at_rate(spec, lr):
    return spec.model_copy(update={"lr": lr, "lr_hidden": lr})


# --- one run ------------------------------------------------------------------------------------


def test_a_loss_that_stays_above_guessing_fails_with_its_step(long_spec, tiny_source, tmp_path):
    """500 times the usual rate: every loss is finite, and far above that of guessing."""
    events = list(train_one(at_rate(long_spec, 3.0), tiny_source, tmp_path, CPU))
    end = events[-1]
    assert isinstance(end, Diverged)
    found = re.search(r"for (\d+) steps in a row by step (\d+) \((\d+) tokens\); lower train\.lr", end.reason)
    steps, step, tokens = map(int, found.groups())
    assert LONG <= steps <= step - long_spec.warmup_steps
    assert step <= LONG + 32 + long_spec.warmup_steps
    assert tokens == step * long_spec.batch_tokens
    assert f"above 1.1 times that of guessing ({math.log(32):.3f} nats/token)" in end.reason
    assert all(math.isfinite(e.train_loss) for e in events if isinstance(e, Eval))


@pytest.mark.parametrize("lr", [0.006, 0.1, 1.0])
def test_a_poor_rate_is_no_divergence(long_spec, tiny_source, tmp_path, lr):
    events = list(train_one(at_rate(long_spec, lr), tiny_source, tmp_path, CPU))
    assert isinstance(events[-1], Finished)
    if lr == 0.006:
        known = [e.train_loss for e in events if isinstance(e, Eval) and e.step > long_spec.warmup_steps]
        assert max(known) < 0.95 * ABOVE * math.log(32)


def test_stops_do_not_hide_a_divergence(long_spec, tiny_source, tmp_path):
    spec, events = at_rate(long_spec, 3.0), []
    undisturbed = list(train_one(spec, tiny_source, tmp_path / "a", CPU))
    for _ in range(20):
        recorded = frozenset(e.key for e in events if isinstance(e, Eval))
        run = train_one(spec, tiny_source, tmp_path / "b", CPU, recorded, Interruptions(StopAfter(40)))
        try:
            while (event := next(run, None)) is not None:
                events.append(event)
            break
        except Paused:
            continue
    assert losses(events) == losses(undisturbed)
    assert events[-1] == undisturbed[-1]


def test_the_others_of_a_pack_go_on(tiny_spec, tiny_source, tmp_path):
    from testbed.training.train import Logged, train

    good, bad = pack_of(tiny_spec, 2)
    specs = (good, at_rate(bad, 1e12))
    events = list(train(specs, tiny_source, (tmp_path / "0", tmp_path / "1"), CPU))
    assert [e.run for e in events if isinstance(e, Diverged)] == [1]
    assert isinstance(events[-1], Finished)
    annealed = [e for e in events if isinstance(e, Logged) and e.evaluation.phase == "annealed"]
    assert [e.run for e in annealed] == [0, 0, 0]


# --- a sweep ------------------------------------------------------------------------------------


def broken(tiny_toml, path, *overrides, rates=(6e4,)):
    """A sweep in whose plan the first runs have other rates than the others."""
    planned = fresh(tiny_toml, path / "planned", *FAST, *overrides)
    first = planned.of_role("grid")[: len(rates)]
    changed = {spec.run_id: at_rate(spec, lr) for spec, lr in zip(first, rates, strict=True)}
    specs = tuple(changed.get(spec.run_id, spec) for spec in planned.specs)
    return Study(SweepFolder.create(path / "sweep", planned.config, specs))


@pytest.fixture(scope="module")
def failed(tiny_toml, tmp_path_factory):
    """A study one of whose runs diverges, after training the grid."""
    study = broken(tiny_toml, tmp_path_factory.mktemp("failed"))
    with pytest.raises(RunFailed) as caught:
        study.train("grid", Quiet())
    return study, str(caught.value)


def test_the_sweep_goes_on_and_says_what_can_be_done(failed):
    study, message = failed
    bad, *others = study.grid
    assert all(study.folder.run(spec).state() == "done" for spec in others)
    failure = study.folder.run(bad).failure()
    assert failure.diverged
    assert re.search(r"not finite by step \d+", failure.reason)
    assert f"1 of 6 grid runs failed:\n  {bad.run_id}: {failure.reason}" in message
    assert message.endswith("repeat the command with --retry-failed, or leave their cells out with --without-failed")


@pytest.mark.slow
def test_nothing_is_sealed_without_being_told_to(failed):
    study, _ = failed
    with pytest.raises(RunFailed, match="--without-failed"):
        study.seal()
    end = command("predict", study.folder.path)
    assert end.returncode == 3
    assert "--retry-failed, or leave their cells out with --without-failed" in " ".join(end.stderr.split())
    assert not study.folder.has_forecast()


@pytest.mark.slow
def test_a_fit_without_failed_runs_says_which_cells_it_lacks(failed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(failed[0].folder.path, copy)
    end = command("predict", copy, "--without-failed")
    assert end.returncode == 0, end.stderr
    study = Study.open(copy)
    bad = study.grid[0]
    forecast = study.folder.forecast()  # its digest fits
    assert [(c.run, c.tokens, c.init_seed) for c in forecast.missing] == [
        (bad.run_id, h.tokens, bad.init_seed) for h in bad.horizons
    ]
    assert all("not finite by step" in cell.reason for cell in forecast.missing)
    assert (forecast.n_runs, forecast.n_points, forecast.n_cells) == (5, 15, 9)
    told = " ".join(end.stdout.split())
    assert "Made WITHOUT 3 cells of the grid, whose runs failed: N = " in told
    assert bad.run_id in told
    page = study.report().read_text()
    assert words.missing_sentence(forecast.missing) in page
    assert "residuals" in page, "the laws are shown"
    forged = forecast.model_copy(update={"missing": ()})
    assert forged.computed_digest() != forecast.digest


@pytest.mark.slow
def test_the_whole_loop_without_failed_runs(failed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(failed[0].folder.path, copy)
    study = Study.open(copy)
    study.seal(without_failed=True)
    study.train("target", Quiet())
    assert study.judge().forecast_digest == study.folder.forecast().digest
    # a run that is mended afterwards does not slip into what was sealed
    study.folder.run(study.grid[0]).forget_failure()
    assert len(Study.open(copy).folder.forecast().missing) == 3


def test_too_little_is_left(failed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(failed[0].folder.path, copy)
    study = Study.open(copy)
    for spec in study.grid[1:5]:
        (study.folder.run(spec).path / "done.json").unlink()
        study.folder.run(spec).fail("the loss was lost", "")
    with pytest.raises(ConfigError, match=r"too little is left without the failed runs .*--retry-failed"):
        study.seal(without_failed=True)


@pytest.mark.slow
def test_diverged_runs_are_tried_once_more_at_a_lower_rate(tiny_toml, tmp_path):
    """One is mended by that, the other diverges again."""
    study = broken(tiny_toml, tmp_path, "train.retry_lr=1e-7", rates=(6e4, 6e12))
    with pytest.raises(RunFailed) as caught:
        study.train("grid", Quiet())
    (first, second, *_, again, in_vain), folder = study.grid, study.folder
    assert (again.retry_of, in_vain.retry_of) == (first.run_id, second.run_id)
    assert (again.lr, again.lr_hidden) == pytest.approx((first.lr * 1e-7, first.lr_hidden * 1e-7))
    states = [folder.run(spec).state() for spec in (first, second, again, in_vain)]
    assert states == ["failed", "failed", "done", "failed"]
    assert f"1 of 8 grid runs failed:\n  {second.run_id}: " in str(caught.value), "a failure is told once"
    assert "(as well as at 600000: the training loss was" in str(caught.value)
    points = study.points()
    assert set(points.loc[points["run"] == again.run_id, "retry_of"]) == {first.run_id}
    assert points.loc[points["run"] != again.run_id, "retry_of"].isna().all()
    forecast = study.seal(without_failed=True)
    assert {cell.run for cell in forecast.missing} == {second.run_id}
    assert [(r.run, r.retry_of, r.lr) for r in forecast.retried] == [(again.run_id, first.run_id, again.lr)]
    assert f"{again.run_id} at {again.lr:g} for {first.run_id}" in words.forecast_sentence(forecast)
    assert forecast.n_runs == 5
    assert words.retried_sentence(forecast.retried) in study.report().read_text()
    status = " ".join(command("status", folder.path).stdout.split())
    assert f"{again.run_id} is the second try of {first.run_id}" in status
    # the folder is that of the same configuration still, and nothing is tried a third time
    taken_up = Study(SweepFolder.open(folder.path))
    with pytest.raises(RunFailed):
        taken_up.train("grid", Quiet())
    assert taken_up.folder.specs == folder.specs


def test_a_plan_with_second_tries_is_taken_up_again(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *FAST, "train.retry_lr=0.5")
    from testbed.training.sweep import retries

    first = sweep.of_role("grid")[0]
    extended = sweep.extended(retries(sweep.specs, {first.run_id}, 0.5))
    assert len(extended.specs) == len(sweep.specs) + 1
    assert extended.extended(extended.specs[-1:]).specs == extended.specs
    assert SweepFolder.create(sweep.path, sweep.config, sweep.specs).specs == extended.specs


# --- what must not change -----------------------------------------------------------------------


def test_hashes_and_digests_of_before_stay_what_they_were(tiny_toml, tiny_spec, sealed_forecast):
    plain, asked = load_config(tiny_toml), load_config(tiny_toml, ["train.retry_lr=0.5"])
    assert "retry_lr" not in plain.identity()["train"]
    assert plain.hash() != asked.hash()
    assert tiny_spec.run_id == tiny_spec.model_copy(update={"retry_of": "other"}).run_id
    old = as_json(sealed_forecast)
    for name in ("missing", "retried"):
        assert old.pop(name) == []
    assert old.pop("format") == 1
    assert old.pop("repetition") is None
    assert old["target"].pop("columns") == {}
    sealed = old.pop("digest")
    assert digest(old) == sealed
    again = Forecast.model_validate_json(json.dumps(old | {"digest": sealed}))
    assert again.computed_digest() == sealed
