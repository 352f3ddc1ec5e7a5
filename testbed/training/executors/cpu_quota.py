"""The CPUs that this process may use: those of its affinity, and no more than the quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs of this process's affinity, at most its quota rounded up (`docker --cpus`, systemd, Kubernetes), at least 1.

    The control groups are read below `root`.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quota, in CPUs, of every control group that this process is in, version 2 (cpu.max) or 1 (cpu.cfs_quota_us)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            for folder in _with_parents(root / "sys/fs/cgroup", group):
                yield from _quota(folder, "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in dict.fromkeys((controllers, "cpu")):
                for folder in _with_parents(root / "sys/fs/cgroup" / mount, group):
                    yield from _quota(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us")


def _with_parents(mount: Path, group: str) -> list[Path]:
    """The folders of a group and of those that it is in; a container sees its own as the root of the mount."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    return [mount.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota(folder: Path, *names: str) -> Iterator[float]:
    """Quota / period of the group in `folder`; nothing where it has none."""
    try:
        quota, period = " ".join((folder / name).read_text() for name in names).split()
        if quota != "max" and float(quota) > 0 and float(period) > 0:
            yield float(quota) / float(period)
    except (OSError, ValueError):
        return
