import json
import multiprocessing
import time

import pytest

from testbed.config import load_config
from testbed.errors import FolderError, RunFailed, SealError
from testbed.records import Eval
from testbed.training.store import SweepFolder
from testbed.training.store.lock import hold
from testbed.training.store.sweep_points import sweep_points
from testbed.training.sweep import plan


@pytest.fixture
def sweep(tiny_config, tiny_source, tmp_path):
    return SweepFolder.create(tmp_path / "sweep", tiny_config, plan(tiny_config, tiny_source.facts).runs)


def annealed(spec, horizon, **changes):
    values = {
        "phase": "annealed",
        "horizon": horizon.tokens,
        "step": horizon.steps,
        "tokens": horizon.tokens,
        "flops": horizon.tokens * spec.counts.flops_per_token,
        "loss": 2.5,
        "bpb": None,
        "train_loss": 2.4,
        "lr": 1e-4,
        "seconds": 1.0,
    }
    return Eval(**values | changes)


def finish(sweep, spec):
    run = sweep.run(spec)
    for horizon in spec.horizons:
        run.path.mkdir(parents=True, exist_ok=True)
        run.log(annealed(spec, horizon))
    run.finish(spec.steps, spec.tokens, 3.0)
    return run


def test_a_folder_opens_to_what_it_was_made_of(sweep, tiny_config):
    again = SweepFolder.open(sweep.path)
    assert again.config == tiny_config
    assert again.specs == sweep.specs
    assert tiny_config.hash() in (sweep.path / "config.toml").read_text()


def test_the_same_configuration_takes_the_folder_up_again(sweep, tiny_config):
    assert SweepFolder.create(sweep.path, tiny_config, sweep.specs).specs == sweep.specs


def test_another_configuration_is_refused_with_the_difference(sweep, tiny_toml, tiny_source):
    other = load_config(tiny_toml, ["train.lr=0.005", "grid.init_seeds=[0, 1, 2]"])
    with pytest.raises(FolderError) as caught:
        SweepFolder.create(sweep.path, other, plan(other, tiny_source.facts).runs)
    assert "grid.init_seeds: [0, 1] -> [0, 1, 2]; train.lr: 0.006 -> 0.005" in str(caught.value)


def test_other_data_under_the_same_configuration_are_refused(sweep, tiny_config):
    moved = tuple(
        spec.model_copy(update={"data": spec.data.model_copy(update={"fingerprint": "0" * 64})}) for spec in sweep.specs
    )
    with pytest.raises(FolderError, match="now gives other runs"):
        SweepFolder.create(sweep.path, tiny_config, moved)


def test_an_edited_configuration_is_noticed_and_the_change_is_shown(sweep):
    path = sweep.path / "config.toml"
    path.write_text(path.read_text().replace("lr = 0.006", "lr = 0.007"))
    with pytest.raises(FolderError, match=r"changed since the sweep was started \(train.lr: 0.006 -> 0.007\)"):
        SweepFolder.open(sweep.path)


def test_a_damaged_plan_is_noticed(sweep):
    (sweep.path / "plan.json").write_text("{")
    with pytest.raises(FolderError, match="not a plan"):
        SweepFolder.open(sweep.path)


def test_a_foreign_folder_is_left_alone(tmp_path, tiny_config, sweep):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(FolderError, match="not empty, and not a sweep's folder"):
        SweepFolder.create(foreign, tiny_config, sweep.specs)
    with pytest.raises(FolderError, match="not a sweep's folder"):
        SweepFolder.open(foreign)
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]


def test_states_of_a_run(sweep):
    spec = sweep.specs[0]
    run = sweep.run(spec)
    assert run.state() == "to do"
    with run.claimed(60):
        assert run.state() == "running"
    (run.path / "spec.json").write_text("{}")
    assert run.state() == "paused"
    run.fail("no reason", "trace")
    assert run.state() == "failed"
    assert run.failure().reason == "no reason"
    run.forget_failure()
    assert finish(sweep, spec).state() == "done"


def test_a_run_that_did_something_else_than_planned_is_not_done(sweep):
    spec = sweep.specs[0]
    run = sweep.run(spec)
    run.path.mkdir(parents=True)
    for horizon in spec.horizons:
        run.log(annealed(spec, horizon, tokens=horizon.tokens - 256))
    with pytest.raises(RunFailed, match="but the plan is"):
        run.finish(spec.steps, spec.tokens, 1.0)
    assert run.state() != "done"
    with pytest.raises(RunFailed, match="but the plan is"):
        run.finish(spec.steps - 1, spec.tokens, 1.0)


def test_done_says_what_was_really_done(sweep):
    spec = sweep.specs[0]
    done = finish(sweep, spec).done()
    assert (done.steps, done.tokens, done.flops) == (spec.steps, spec.tokens, spec.flops)


def test_a_broken_line_is_named(sweep):
    run = sweep.run(sweep.specs[0])
    run.path.mkdir(parents=True)
    (run.path / "evals.jsonl").write_text('{"phase": "annealed"}\n')
    with pytest.raises(FolderError, match=r"evals\.jsonl, line 1: not an evaluation"):
        run.evals()


def _hold_for_a_while(path, ready, seconds):
    with hold(path, "busy"):
        ready.set()
        time.sleep(seconds)


def test_a_lock_is_one_processs_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_for_a_while, args=(path, ready, 60))
    process.start()
    assert ready.wait(60)
    with pytest.raises(FolderError, match="busy"), hold(path, "busy", patience=0.1):
        pass
    process.kill()
    process.join()
    with hold(path, "busy"):
        pass


def test_only_finished_runs_are_in_the_points(sweep):
    first, second = sweep.specs[:2]
    finish(sweep, first)
    run = sweep.run(second)
    run.path.mkdir(parents=True)
    run.log(annealed(second, second.horizons[0]))
    points = sweep_points(sweep)
    assert set(points["run"]) == {first.run_id}
    row = points.iloc[0]
    assert row["flops_6nd"] == 6 * row["n_params_non_embedding"] * row["tokens"]
    assert row["tokens_per_param"] == row["tokens"] / row["n_params_non_embedding"]
    assert row["unique_tokens"] == row["tokens"]
    assert row["branch_step"] == first.horizons[0].branch_step


def test_a_seal_cannot_be_written_twice_nor_changed(sweep, sealed_forecast):
    with pytest.raises(SealError, match="no forecast is sealed yet"):
        sweep.forecast()
    sweep.seal(sealed_forecast)
    assert sweep.forecast() == sealed_forecast
    with pytest.raises(SealError, match="already sealed"):
        sweep.seal(sealed_forecast)
    path = sweep.forecast_path
    path.chmod(0o644)
    tampered = json.loads(path.read_text())
    tampered["predicted"] *= 1.01
    path.write_text(json.dumps(tampered))
    with pytest.raises(SealError, match="changed after it was sealed"):
        sweep.forecast()
    path.write_text("{}")
    with pytest.raises(SealError, match="not a forecast"):
        sweep.forecast()
