import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.training.executors import LocalExecutor, Outcome
from testbed.training.store import SweepFolder
from testbed.training.sweep import packs
from tests.helpers.sweeps import LONG, Quiet, fresh, processes_of, table, wait_for

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def undisturbed(tiny_toml, tmp_path_factory):
    """The grid trained in one go on two workers."""
    sweep = fresh(tiny_toml, tmp_path_factory.mktemp("undisturbed") / "sweep")
    watcher = Quiet()
    outcomes = LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), watcher)
    return sweep, watcher, outcomes


def test_every_run_ends_done_with_what_was_planned(undisturbed):
    sweep, watcher, outcomes = undisturbed
    grid = sweep.of_role("grid")
    assert sorted(o.run_id for o in outcomes) == sorted(s.run_id for s in grid)
    assert all(o == Outcome(o.run_id, "done") for o in outcomes)
    for spec in grid:
        run = sweep.run(spec)
        done = run.done()
        assert (done.steps, done.tokens, done.flops) == (spec.steps, spec.tokens, spec.flops)
        evals = run.evals()
        assert [e for r, e in watcher.evals if r == spec.run_id] == evals
        assert {e.horizon: (e.tokens, e.step, e.flops) for e in evals if e.phase == "annealed"} == {
            h.tokens: (h.tokens, h.steps, h.tokens * spec.counts.flops_per_token) for h in spec.horizons
        }
        assert not list(run.path.glob("trunk*"))
        assert (run.path / "weights.safetensors").exists()


@pytest.mark.slow
def test_the_longest_runs_are_taken_first(undisturbed):
    sweep, watcher, _ = undisturbed
    flops = [sweep.find(run_id).spec.flops for run_id in watcher.begun]
    assert flops == sorted(flops, reverse=True)


def test_a_worker_has_one_thread_and_says_where_its_numbers_come_from(undisturbed):
    sweep, _, _ = undisturbed
    for spec in sweep.of_role("grid"):
        (provenance,) = sweep.run(spec).provenance()
        assert provenance.threads == 1
        assert provenance.deterministic
        assert provenance.data_fingerprint == spec.data.fingerprint
        assert provenance.versions["torch"]


def test_what_is_done_is_not_done_again(undisturbed):
    sweep, _, _ = undisturbed
    before = table(sweep)
    stamp = {p: p.stat().st_mtime_ns for p in sweep.path.glob("runs/*/evals.jsonl")}
    again = LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), Quiet())
    assert all(o.ending == "done" for o in again)
    assert {p: p.stat().st_mtime_ns for p in stamp} == stamp
    assert table(sweep).equals(before)


def test_an_executor_is_used_again_after_its_workers_have_left(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep")
    waiting = [(spec,) for spec in sweep.of_role("target")]  # they end at once: no forecast is sealed
    executor = LocalExecutor("cpu", 1)
    for _ in range(2):
        assert [o.ending for o in executor.run(sweep, waiting, Quiet())] == ["failed"] * len(sweep.of_role("target"))


def test_a_target_does_not_start_without_a_seal(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep")
    outcomes = LocalExecutor("cpu", 1).run(sweep, packs(sweep.of_role("target")), Quiet())
    assert {o.ending for o in outcomes} == {"failed"}
    assert "no forecast is sealed yet" in outcomes[0].reason
    assert not any(sweep.run(s).evals() for s in sweep.of_role("target"))


def test_a_failed_run_is_told_and_the_others_go_on(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep", "train.lr=1e30", "train.base_width=8", "train.clip=1e30")
    broken = sweep.of_role("grid")[:1]
    outcomes = LocalExecutor("cpu", 1).run(sweep, packs(broken), Quiet())
    assert outcomes[0].ending == "failed"
    assert "not finite by step" in outcomes[0].reason
    assert sweep.run(broken[0]).state() == "failed"
    assert "lower train.lr" in sweep.run(broken[0]).failure().reason


def test_other_tokens_than_planned_are_refused(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep")
    specs = tuple(
        s.model_copy(update={"data": s.data.model_copy(update={"fingerprint": "0" * 64})}) for s in sweep.specs
    )
    sweep = SweepFolder.create(tmp_path / "other", sweep.config, specs)
    with pytest.raises(
        TestbedError, match=r"the tokens are not those of the plan .*restore the data and repeat the command"
    ):
        LocalExecutor("cpu", 1).run(sweep, packs(specs), Quiet())
    assert {sweep.run(spec).state() for spec in specs} == {"to do"}  # none is marked as failed


def test_an_error_at_the_start_of_a_worker_reaches_the_launcher(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep")
    (sweep.path / "plan.json").write_text("{")
    with pytest.raises(TestbedError, match="not a plan"):
        LocalExecutor("cpu", 1).run(sweep, packs(sweep.specs[:1]), Quiet())


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_run_goes_on_bit_for_bit(tiny_toml, tmp_path, long_undisturbed):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *LONG)
    killed = []

    def kill():
        wait_for(lambda: list(sweep.path.glob("runs/*/trunk.safetensors")))
        killed.extend(processes_of(sweep)[:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), Quiet())
    killer.join()
    assert killed
    assert {o.ending for o in outcomes} == {"done"}
    assert table(sweep).drop(columns=[]).equals(long_undisturbed)


LAUNCH = """
import sys
from pathlib import Path
from testbed.training.executors import LocalExecutor, train_all
from testbed.training.store import SweepFolder
class Quiet:
    def started(self, spec): print("started", flush=True)
    def progress(self, spec, steps): print("progress", flush=True)
    def evaluated(self, spec, evaluation): pass
    def ended(self, spec, outcome): print("ended", outcome.ending, flush=True)
sweep = SweepFolder.open(Path(sys.argv[1]))
train_all(LocalExecutor("cpu", 2), sweep, sweep.of_role("grid"), Quiet())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_launcher_leaves_no_worker_and_the_same_command_goes_on(
    tiny_toml, tmp_path, long_undisturbed, how
):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *LONG)
    for kills in range(2):
        launcher = subprocess.Popen([sys.executable, "-c", LAUNCH, str(sweep.path)], stdout=subprocess.PIPE, text=True)
        told = next((line for line in launcher.stdout if "progress" in line), None)
        assert told or kills, "only what the first kill left over may be done before it tells of any progress"
        time.sleep(0.2 + 0.3 * kills)
        launcher.send_signal(how)
        launcher.wait(60)
        wait_for(lambda: not processes_of(sweep), 30)
        states = [sweep.run(s).state() for s in sweep.of_role("grid")]
        assert "running" not in states
        assert "failed" not in states
    end = subprocess.run([sys.executable, "-c", LAUNCH, str(sweep.path)], capture_output=True, text=True, check=False)
    assert end.returncode == 0, end.stderr
    assert table(sweep).equals(long_undisturbed)


@pytest.mark.slow
def test_two_launches_share_out_a_sweep_and_both_end_when_it_is_done(tiny_toml, tmp_path, long_undisturbed):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *LONG)
    launches = [
        subprocess.Popen([sys.executable, "-c", LAUNCH, str(sweep.path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [launch.communicate(timeout=120)[0] for launch in launches]
    assert [launch.returncode for launch in launches] == [0, 0]
    grid = sweep.of_role("grid")
    assert sum(text.count("ended done") for text in told) == len(grid), "each run was done by one of them, once"
    assert all(sum(session.steps for session in sweep.run(spec).sessions()) == spec.steps for spec in grid)
    assert table(sweep).equals(long_undisturbed)


def patient(sweep, seconds):
    """The sweep for a launcher that waits so long for a hung worker; the workers read the folder's own setting."""
    execution = sweep.config.execution.model_copy(update={"hang_seconds": seconds})
    return SweepFolder(sweep.path, sweep.config.model_copy(update={"execution": execution}), sweep.specs)


def test_a_worker_that_is_frozen_is_ended_and_its_run_tried_again(tiny_toml, tmp_path, long_undisturbed):
    sweep = patient(fresh(tiny_toml, tmp_path / "sweep", *LONG), 10.0)

    def freeze():
        wait_for(lambda: list(sweep.path.glob("runs/*/trunk.safetensors")))
        os.kill(processes_of(sweep)[0], signal.SIGSTOP)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    executor = LocalExecutor("cpu", 2)
    outcomes = executor.run(sweep, packs(sweep.of_role("grid")), Quiet())
    freezer.join()
    assert {o.ending for o in outcomes} == {"done"}
    assert max(len(sweep.run(spec).sessions()) for spec in sweep.of_role("grid")) == 2
    assert table(sweep).equals(long_undisturbed)


@pytest.fixture
def stuck(tiny_toml, tmp_path, monkeypatch):
    """Makes a sweep whose data never come."""
    (tmp_path / "stuck").mkdir()
    (tmp_path / "stuck" / "source.py").write_text(STUCK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("TESTBED_ALLOW_CODE", "stuck.source")
    return lambda *settings: fresh(tiny_toml, tmp_path / "sweep", 'data.source="stuck.source:Stuck"', *settings)


@pytest.mark.slow
def test_a_worker_whose_data_never_come_ends_itself_and_says_where_it_hung(stuck):
    sweep = patient(stuck("execution.hang_seconds=10.0"), 60.0)
    outcomes = LocalExecutor("cpu", 1).run(sweep, packs(sweep.of_role("grid")[:1]), Quiet())
    (outcome,) = outcomes
    assert outcome.ending == "failed"
    assert "its worker died 3 times (exit status 70)" in outcome.reason
    (log,) = {Path(line) for line in [outcome.reason.partition("see ")[2]]}
    assert "this process hangs, so it ends itself" in log.read_text()
    assert "stuck/source.py" in log.read_text(), "the stacks of its threads"


def test_a_run_that_hangs_whoever_trains_it_fails_after_three_workers(stuck, monkeypatch):
    monkeypatch.setattr(
        "testbed.training.executors.worker_pool._GRACE", 0.5
    )  # after which a worker that does not end itself is ended
    sweep = patient(stuck("execution.hang_seconds=900.0"), 1.0)
    (outcome,) = LocalExecutor("cpu", 1).run(sweep, packs(sweep.of_role("grid")[:1]), Quiet())
    assert outcome.ending == "failed"
    assert "its worker died 3 times (exit status -9)" in outcome.reason


STUCK = """
import time
from testbed.training.data import open_source
class Stuck:
    def __init__(self, data):
        self._inner = open_source(data.model_copy(update={"source": "synthetic:zipf"}))
        self.facts = self._inner.facts
    def validation(self):
        return self._inner.validation()
    def rows(self, *arguments):
        time.sleep(3600)
"""


def test_events_of_a_worker_are_json_lines(tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep")
    spec = sweep.of_role("grid")[0]
    command = [sys.executable, "-m", "testbed.training.executors.worker", str(sweep.path), "cpu"]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    worker.stdin.write(spec.run_id + "\n")
    worker.stdin.flush()
    events = []
    while not events or events[-1]["event"] != "ended":
        events.append(json.loads(worker.stdout.readline()))
    worker.stdin.close()
    assert worker.wait(30) == 0
    assert events[0] == {"event": "ready"}
    assert {e["run"] for e in events[1:-1]} == {spec.run_id}
    assert events[-1]["outcomes"] == [{"run_id": spec.run_id, "ending": "done", "reason": ""}]


@pytest.mark.parametrize(("executor", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_without_its_package_an_executor_says_what_to_install(tiny_toml, tmp_path, executor, package):
    (tmp_path / f"{package}.py").write_text("raise ImportError")
    code = (
        "import sys; from testbed.config import load_config; from testbed.training.executors import make_executor;"
        "make_executor(load_config(sys.argv[1], sys.argv[2:]).execution)"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-c", code, str(tiny_toml), f'execution.executor="{executor}"']
    answer = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert f"pip install {package}" in answer.stderr
