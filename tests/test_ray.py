"""Sweeps through a real Ray cluster of several nodes on this machine."""

import signal
import subprocess
import sys
import threading

import pytest

from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.training.executors import make_executor, train_all
from testbed.training.executors.local import LocalExecutor
from testbed.training.sweep import packs
from tests.helpers.sweeps import SLOW, Quiet, fresh, processes_of, table, wait_for

pytestmark = pytest.mark.slow

_STORE = 80 * 2**20  # bytes; the least that Ray accepts is 75 MiB
NODE = {"num_cpus": 1, "object_store_memory": _STORE}
RAY = ('execution.executor="ray"', 'execution.device="cpu"', "execution.lease_seconds=2.0")
SMALL = ("grid.widths=[8, 16]", "grid.tokens=[10_240, 20_480]")
LONG = (SLOW, "grid.widths=[8, 16]", "grid.tokens=[204_800]", "execution.checkpoint_seconds=0.3")


@pytest.fixture(scope="module")
def cluster(slow):
    """A head that runs no task, and two nodes with a core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()


def on(cluster):
    return (*RAY, f'execution.ray.address="{cluster.address}"')


def train(sweep, watcher=None):
    train_all(make_executor(sweep.config.execution), sweep, sweep.of_role("grid"), watcher or Quiet())


def local(tiny_toml, path, *overrides):
    sweep = fresh(tiny_toml, path, *overrides)
    LocalExecutor("cpu", 2).run(sweep, packs(sweep.of_role("grid")), Quiet())
    return table(sweep)


@pytest.fixture(scope="module")
def undisturbed(tiny_toml, tmp_path_factory, slow):
    return local(tiny_toml, tmp_path_factory.mktemp("undisturbed") / "sweep", *LONG)


def test_a_sweep_gives_the_same_table_through_ray_as_on_this_machine(cluster, tiny_toml, tmp_path):
    sweep, watcher = fresh(tiny_toml, tmp_path / "ray", *SMALL, *on(cluster)), Quiet()
    train(sweep, watcher)
    assert table(sweep).equals(local(tiny_toml, tmp_path / "local", *SMALL))
    grid = [spec.run_id for spec in sweep.of_role("grid")]
    assert sorted(watcher.begun) == sorted(outcome.run_id for outcome in watcher.outcomes) == sorted(grid)
    assert sorted(watcher.evals, key=str) == sorted(
        ((run_id, e) for run_id in grid for e in sweep.find(run_id).evals()), key=str
    )


def test_a_node_that_dies_in_mid_sweep_costs_time_and_changes_nothing(cluster, tiny_toml, tmp_path, slow, undisturbed):
    slow.write_text("0.3")
    sweep = fresh(tiny_toml, tmp_path / "ray", *LONG, *on(cluster))
    nodes = list(cluster.worker_nodes)

    def kill():
        wait_for(lambda: len(list(sweep.path.glob("runs/*/trunk.safetensors"))) == 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        slow.unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    watcher = Quiet()
    train(sweep, watcher)
    killer.join()
    cluster.add_node(**NODE)
    assert nodes[0] not in cluster.worker_nodes
    assert {outcome.ending for outcome in watcher.outcomes} == {"done"}
    assert sorted(len(sweep.run(spec).sessions()) for spec in sweep.of_role("grid"))[-1] >= 2, "one was tried again"
    assert table(sweep).equals(undisturbed)


LAUNCH = """
import sys
from pathlib import Path
from testbed.training.executors import make_executor, train_all
from testbed.training.store import SweepFolder
from tests.helpers.sweeps import Quiet
sweep = SweepFolder.open(Path(sys.argv[1]))
train_all(make_executor(sweep.config.execution), sweep, sweep.of_role("grid"), Quiet())
"""


def test_an_interrupted_launcher_ends_its_tasks_after_their_checkpoint(cluster, tiny_toml, tmp_path, slow, undisturbed):
    slow.write_text("0.3")
    sweep = fresh(tiny_toml, tmp_path / "ray", *LONG, *on(cluster), "execution.checkpoint_seconds=60.0")
    command = [sys.executable, "-c", LAUNCH, str(sweep.path)]
    launcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(sweep.path.glob("runs/*/evals.jsonl"))) == 4)
    launcher.send_signal(signal.SIGINT)
    _, told = launcher.communicate(timeout=180)
    slow.unlink()
    assert "KeyboardInterrupt" in told
    assert not processes_of(sweep)
    states = [sweep.run(spec).state() for spec in sweep.of_role("grid")]
    assert set(states) <= {"paused", "done"}
    unfinished = states.count("paused") // 2
    assert len(list(sweep.path.glob("runs/*/trunk.safetensors"))) == unfinished > 0, (
        "the checkpoints that were asked for"
    )
    train(sweep)
    assert table(sweep).equals(undisturbed)


DEADLY = """
import os, signal
from testbed.training.data.synthetic import ZipfSource
class Deadly(ZipfSource):
    def rows(self, *arguments):
        os.kill(os.getppid(), signal.SIGKILL)  # the task, whose worker this is
        os._exit(1)
"""


def test_a_task_that_dies_is_tried_again_and_at_last_its_runs_fail(cluster, tiny_toml, tmp_path, slow, monkeypatch):
    (slow.parent / "slow" / "deadly.py").write_text(DEADLY)
    monkeypatch.setenv("TESTBED_ALLOW_CODE", "slow.deadly")
    sweep = fresh(
        tiny_toml, tmp_path / "ray", *LONG, "grid.widths=[8]", *on(cluster), 'data.source="slow.deadly:Deadly"'
    )
    train(sweep)
    for spec in sweep.of_role("grid"):
        assert "its task died 3 times (WorkerCrashedError" in sweep.run(spec).failure().reason


def test_where_no_cluster_answers_the_error_says_what_to_do(tiny_toml, tmp_path):
    pytest.importorskip("ray")
    sweep = fresh(tiny_toml, tmp_path / "ray", *SMALL, *RAY, 'execution.ray.address="127.0.0.1:1"')
    with pytest.raises(ConfigError, match=r'execution.ray.address: found "127.0.0.1:1", where no Ray cluster answers'):
        train(sweep)


@pytest.mark.parametrize("setting", ["gpus=0.0", "gpus=2.0", 'address="a b"', "cpus=-1.0", "nodes=3"])
def test_what_is_no_setting_of_ray_is_refused(tiny_toml, setting):
    with pytest.raises(ConfigError, match=r"execution\.ray"):
        load_config(tiny_toml, [f"execution.ray.{setting}"])
