"""A real Slurm of one node in a temporary folder, for as long as a test module takes."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CPUS = 4  # as Slurm counts them, whatever this machine has
_FOLDERS = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/local/sbin"))
_COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
_PATIENCE = 30.0

_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
KillWait=10
MinJobAge=3600
CompleteWait=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


@contextlib.contextmanager
def slurm_node() -> Iterator[None]:
    """Slurm's commands work while the block runs, and nothing of it is left afterwards; skips where they are missing."""
    path = os.pathsep.join((os.environ["PATH"], _FOLDERS))
    missing = [name for name in _COMMANDS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"needs Slurm ({', '.join(missing)} not found): apt-get install slurm-wlm munge")
    with (
        tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        _configure(folder)
        patch.setenv("PATH", path)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        daemons: list[subprocess.Popen[bytes]] = []
        try:
            _start(folder, daemons)
            yield
            subprocess.run(["scancel", "--quiet", f"--user={os.getuid()}"], check=False)
            _wait_for(lambda: not command("squeue", "--noheader"), "jobs that do not end", folder)
        finally:
            for daemon in reversed(daemons):
                _end(daemon)


def command(*arguments: str) -> str:
    """What one of Slurm's commands prints."""
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def jobs() -> dict[str, dict[str, str]]:
    """What Slurm shows of every job that it knows, by job id (with the number in its array)."""
    shown = [dict(re.findall(r"([^\s=]+)=(\S*)", block)) for block in command("scontrol", "show", "job").split("\n\n")]
    found = {}
    for job in filter(None, shown):  # those of an array that still wait are shown as one, such as 7_1-3%2
        found[f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if "ArrayJobId" in job else job["JobId"]] = job
    return found


def release() -> None:
    """Let jobs that were queued again start now: Slurm has them wait two minutes."""
    for name, job in jobs().items():
        if job["JobState"] == "PENDING" and job["Reason"] == "BeginTime":
            command("scontrol", "update", f"JobId={name}", "StartTime=now")


def _configure(folder: Path) -> None:
    for part in ("state", "spool", "munge"):
        (folder / part).mkdir(mode=0o755)
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    ports = _free_ports(2)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    host = socket.gethostname().partition(".")[0]
    conf = _CONF.format(host=host, controller_port=ports[0], node_port=ports[1], folder=folder, user=user, cpus=CPUS)
    (folder / "slurm.conf").write_text(conf)
    for number in range(2):
        (folder / f"gpu{number}").touch()  # enough for Slurm to count and hand out
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/gpu[0-1]\n")


def _start(folder: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    munge = folder / "munge"
    files = {name: munge / name for name in ("socket", "pid-file", "log-file", "seed-file")}
    options = [f"--{name}={path}" for name, path in files.items()]
    conf = str(folder / "slurm.conf")
    _launch(["munged", "--foreground", "--force", f"--key-file={munge / 'key'}", *options], folder, daemons)
    _wait_for(files["socket"].exists, "munged's socket", folder)
    _launch(["slurmctld", "-D", "-f", conf], folder, daemons)
    _launch(["slurmd", "-D", "-f", conf], folder, daemons)
    _wait_for(lambda: _idle(daemons), "an idle node", folder)


def _launch(arguments: list[str], folder: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    with (folder / f"{arguments[0]}.out").open("wb") as out:
        daemons.append(subprocess.Popen(arguments, stdout=out, stderr=out, stdin=subprocess.DEVNULL))


def _idle(daemons: list[subprocess.Popen[bytes]]) -> bool:
    answer = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
    return all(daemon.poll() is None for daemon in daemons) and "idle" in answer.stdout


def _wait_for(condition, what: str, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(log.read_text(errors="replace")[-1000:] for log in sorted(folder.glob("*.[lo][ou][gt]")))
            message = f"Slurm was started but there is not yet: {what}\n{logs}"
            if os.getuid() == 0:
                raise RuntimeError(message)
            pytest.skip(message)
        time.sleep(0.1)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
