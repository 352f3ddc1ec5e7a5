"""Sweeps through a real Slurm of one node, which the tests start themselves."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.training.executors import make_executor, train_all
from testbed.training.executors.local import LocalExecutor
from testbed.training.executors.slurm_jobs import SlurmJobs, resources
from testbed.training.store import SweepFolder
from testbed.training.sweep import packs
from testbed.training.train import estimate
from tests.helpers.slurm_node import command, jobs, release, slurm_node
from tests.helpers.sweeps import SLOW, Quiet, fresh, processes_of, table

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]

SLURM = (
    'execution.executor="slurm"',
    'execution.device="cpu"',
    "execution.slurm.poll=0.3",
    "execution.lease_seconds=2.0",
    "execution.checkpoint_seconds=0.3",
)


@pytest.fixture(scope="module")
def slurm():
    pytest.importorskip("submitit")
    with slurm_node():
        yield


def train(sweep, watcher=None):
    train_all(make_executor(sweep.config.execution), sweep, sweep.of_role("grid"), watcher or Quiet())


def test_a_sweep_gives_the_same_table_through_slurm_as_on_this_machine(slurm, tiny_toml, tmp_path):
    small = ("grid.widths=[8, 16]", "grid.tokens=[10_240, 20_480]")
    local = fresh(tiny_toml, tmp_path / "local", *small)
    LocalExecutor("cpu", 2).run(local, packs(local.of_role("grid")), Quiet())
    sweep, watcher = fresh(tiny_toml, tmp_path / "slurm", *small, *SLURM), Quiet()
    train(sweep, watcher)
    assert table(sweep).equals(table(local))
    grid = [spec.run_id for spec in sweep.of_role("grid")]
    assert sorted(watcher.begun) == sorted(outcome.run_id for outcome in watcher.outcomes) == sorted(grid)
    assert sorted(watcher.evals, key=str) == sorted(
        ((run_id, e) for run_id in grid for e in sweep.find(run_id).evals()), key=str
    )
    (submission,) = (sweep.path / "logs" / "slurm").iterdir()
    assert len(list(submission.glob("*_submission.sh"))) == 1, "one array job"
    assert len(list(submission.glob("*_log.out"))) == 2


LONG = (SLOW, "grid.widths=[8, 16]", "grid.tokens=[163_840]", "grid.init_seeds=[0]")


@pytest.fixture(scope="module")
def undisturbed(tiny_toml, tmp_path_factory, slow):
    sweep = fresh(tiny_toml, tmp_path_factory.mktemp("undisturbed") / "sweep", *LONG)
    LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), Quiet())
    return table(sweep)


def wait_for(condition, seconds=600):
    """As in tests.helpers.sweeps, but Slurm is asked less often."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def begun(sweep):
    """Whether every run of the grid has a checkpoint."""
    return all((sweep.run(spec).path / "trunk.safetensors").exists() for spec in sweep.of_role("grid"))


def jobs_of(sweep):
    """The sweep's jobs that have not ended, and the processes of those that have."""
    waiting = [job for job in jobs().values() if job["Command"].startswith(str(sweep.path))]
    return [job for job in waiting if job["JobState"] in ("PENDING", "RUNNING", "COMPLETING")] + processes_of(sweep)


def submitted(sweep):
    """The jobs and arrays of the sweep that Slurm knows, ended or not."""
    ours = [job for job in jobs().values() if job["Command"].startswith(str(sweep.path))]
    return {job.get("ArrayJobId", job["JobId"]) for job in ours}


def restarts(names):
    """How often each of these jobs was started again, at least."""
    known = jobs()
    return min(int(known[name]["Restarts"]) for name in names)


def logs(sweep):
    return "".join(log.read_text() for log in (sweep.path / "logs" / "slurm").glob("*/*_log.out"))


def test_jobs_that_are_queued_again_pre_empted_or_out_of_time_go_on(slurm, tiny_toml, tmp_path, slow, undisturbed):
    slow.write_text("9")
    limits = ('execution.slurm.time="60 s"', 'execution.slurm.notice="15 s"')
    sweep = fresh(tiny_toml, tmp_path / "sweep", *LONG, *SLURM, *limits)
    launch = threading.Thread(target=train, args=(sweep,), daemon=True)
    launch.start()
    wait_for(lambda: begun(sweep))
    ours = [name for name, job in jobs().items() if job["JobState"] == "RUNNING"]
    assert len(ours) == 2

    command("scontrol", "requeue", ours[0])
    wait_for(lambda: jobs()[ours[0]]["JobState"] == "PENDING")
    urgent = command("sbatch", "--partition=urgent", "--ntasks=4", "--output=/dev/null", "--wrap=true").split()[-1]
    wait_for(lambda: jobs()[urgent]["JobState"] == "COMPLETED")
    assert restarts(ours) >= 1

    wait_for(
        lambda: release() or restarts(ours) >= 2 or not launch.is_alive()
    )  # a busy machine may end before the limit
    in_time = launch.is_alive()
    slow.unlink()
    wait_for(lambda: release() or not launch.is_alive())
    assert table(sweep).equals(undisturbed)
    for spec in sweep.of_role("grid"):
        assert len(sweep.run(spec).sessions()) >= (3 if in_time else 2)
        assert all(session.released for session in sweep.run(spec).sessions()), "each stop was in good order"
    assert "timed-out" in logs(sweep) or not in_time


LAUNCH = """
import sys
from pathlib import Path
from testbed.training.executors import make_executor, train_all
from testbed.training.store import SweepFolder
from tests.helpers.sweeps import Quiet
sweep = SweepFolder.open(Path(sys.argv[1]))
train_all(make_executor(sweep.config.execution), sweep, sweep.of_role("grid"), Quiet())
"""


def launched(sweep):
    return subprocess.Popen([sys.executable, "-c", LAUNCH, str(sweep.path)], stderr=subprocess.PIPE, text=True)


def test_the_jobs_of_a_killed_launcher_are_adopted_and_not_submitted_twice(
    slurm, tiny_toml, tmp_path, slow, undisturbed
):
    slow.write_text("1")
    sweep = fresh(tiny_toml, tmp_path / "sweep", *LONG, *SLURM, "execution.workers=1")
    launcher = launched(sweep)
    wait_for(lambda: any(job["JobState"] == "RUNNING" for job in jobs().values()))
    launcher.send_signal(signal.SIGKILL)
    launcher.communicate()
    before = submitted(sweep)
    again = launched(sweep)
    wait_for(lambda: list(sweep.path.glob("runs/*/trunk.safetensors")))
    slow.unlink()
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert submitted(sweep) == before
    assert len(list((sweep.path / "logs" / "slurm").iterdir())) == 1
    assert table(sweep).equals(undisturbed)
    assert all(len(sweep.run(spec).sessions()) == 1 for spec in sweep.of_role("grid"))


def test_an_interrupted_launcher_cancels_its_jobs_after_their_checkpoint(slurm, tiny_toml, tmp_path, slow, undisturbed):
    slow.write_text("1")
    sweep = fresh(
        tiny_toml, tmp_path / "sweep", *LONG, *SLURM, "execution.workers=1", "execution.checkpoint_seconds=60.0"
    )
    launcher = launched(sweep)
    wait_for(lambda: list(sweep.path.glob("runs/*/evals.jsonl")))
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=180)
    assert not jobs_of(sweep)
    assert sorted(sweep.run(spec).state() for spec in sweep.of_role("grid")) == ["paused", "to do"]
    assert len(list(sweep.path.glob("runs/*/trunk.safetensors"))) == 1, "the checkpoint that it was asked for"
    slow.unlink()
    train(sweep)
    assert table(sweep).equals(undisturbed)


def tasks_of(sweep):
    """Process ids of the sweep's jobs, as submitit starts them with their folder."""
    folders = (sweep.path / "logs" / "slurm").glob("*")
    return [pid for path in folders for pid in processes_of(SweepFolder(path, None, ()), "submitit.core._submit")]


def test_a_job_that_dies_is_tried_again_and_at_last_its_run_fails_with_the_end_of_its_log(
    slurm, tiny_toml, tmp_path, slow
):
    slow.write_text("1")
    sweep = fresh(tiny_toml, tmp_path / "sweep", *LONG, *SLURM, "grid.widths=[8]")
    over = threading.Event()

    def kill():
        while not over.wait(0.2):
            for pid in tasks_of(sweep):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        train(sweep)
    finally:
        over.set()
        killer.join()
    (spec,) = sweep.of_role("grid")
    failure = sweep.run(spec).failure()
    assert "its task died 3 times (Slurm's job" in failure.reason
    assert "FAILED" in failure.reason
    assert "Killed" in failure.details


def test_jobs_ask_for_what_the_plan_says(slurm, tiny_toml, tmp_path):
    held = ("execution.slurm.extra.hold=true", 'execution.slurm.extra.comment="it\'s a test"', "execution.workers=2")
    asked = ('execution.slurm.time="2 h"', 'execution.slurm.partition="urgent"', "execution.slurm.cpus=2")
    wide = ("model.head_size=64", "grid.widths=[64, 2048]", "target.width=2048", "data.seq_len=1024", "train.pack=1")
    batches = ("train.batch_tokens=16_384", "grid.tokens=[1_638_400]", "target.tokens=3_276_800", "grid.init_seeds=[0]")
    sweep = fresh(tiny_toml, tmp_path / "sweep", *SLURM, *held, *asked, *wide, *batches)
    small, large = packs(sweep.of_role("grid"))
    for device, count in (("cpu", 2), ("cuda", 1)):
        settings = sweep.config.execution.model_copy(update={"device": device})
        with ExitStack() as stack:
            launch = SlurmJobs(sweep, settings, stack)
            launch.submit([small, large])
            shown = [job for job in jobs().values() if job["JobState"] == "PENDING"]
            launch.stop()
        asked_for = sorted({resources(pack, device, settings.slurm).memory_gib for pack in (small, large)})
        assert len(shown) == len(asked_for) == count, "an array for each size of memory"
        assert [job["MinMemoryNode"] for job in sorted(shown, key=lambda job: len(job["MinMemoryNode"]))] == [
            f"{gibibytes}G" for gibibytes in asked_for
        ]
        for job in shown:
            assert job["TimeLimit"] == "02:00:00"
            assert job["Partition"] == "urgent"
            assert job["Requeue"] == "1"
            assert job["NumCPUs"] == "2"
            assert job["Reason"] == "JobHeldUser"
            assert job.get("TresPerNode") == ("gres:gpu:1" if device == "cuda" else None)
            assert job.get("ArrayTaskId") == ("0-1%2" if device == "cuda" else None)
    memory = estimate(large[0]).bytes
    assert memory < resources(large, "cpu", settings.slurm).memory_gib * 2**30 < 4 * memory
    assert not jobs_of(sweep)


def test_what_sbatch_refuses_is_told(slurm, tiny_toml, tmp_path):
    sweep = fresh(tiny_toml, tmp_path / "sweep", *SLURM, 'execution.slurm.partition="nowhere"')
    with pytest.raises(ConfigError, match=r"execution.slurm: sbatch refuses the jobs(.|\n)*invalid partition"):
        train(sweep)


def test_without_slurm_the_error_says_what_is_missing(tiny_toml, tmp_path, monkeypatch):
    execution = load_config(tiny_toml, SLURM).execution
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch, squeue, scancel, srun cannot be found"):
        make_executor(execution)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('extra.wrap="x"', "wrap is set by the executor"),
        ('extra.comment="a\\nb"', "text of one line"),
        ('extra."a b"=1', "should match pattern"),
        ('partition="a;b"', "should match pattern"),
        ('time="soon"', "a time is a number of seconds"),
        ('notice="2 h"', "at most a quarter of time"),
        ("extra.hold=false", "text of one line"),
    ],
)
def test_what_is_no_setting_of_slurm_is_refused(tiny_toml, setting, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny_toml, [f"execution.slurm.{setting}"])


def test_settings_of_a_cluster_change_no_identity(tiny_toml):
    plain = load_config(tiny_toml)
    other = load_config(tiny_toml, [*SLURM, "execution.ray.gpus=0.5"])
    assert other.hash() == plain.hash()
    assert other.execution.slurm.time == 4 * 3600
