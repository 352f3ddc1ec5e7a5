"""The files that belong in a sweep's archive, by name, and its manifest; used by packing and unpacking."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from testbed.errors import FolderError
from testbed.records import Record
from testbed.training.store import SweepFolder

MANIFEST = "MANIFEST.json"
POINTS = "points.csv"
FORMAT = 1  # of an archive: the latest that this version reads, and the one that it writes

_OF_SWEEP = (
    "certificate.json",
    "config.toml",
    "data.json",
    "forecast.json",
    "plan.json",
    "timetable.json",
    "verdict.json",
)
_OF_RUN = ("done.json", "evals.jsonl", "failed.json", "notices.jsonl", "provenance.jsonl", "spec.json")
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"  # no separators: a name cannot point to another folder
_BELONGS = re.compile(
    rf"{'|'.join(map(re.escape, (*_OF_SWEEP, POINTS)))}|report/{_PLAIN}"
    rf"|runs/{_PLAIN}/({'|'.join(map(re.escape, _OF_RUN))}|sessions/\d{{1,9}}\.json|{_PLAIN}\.safetensors)"
)


class Member(Record):
    """One file: its SHA-256 and its size in bytes."""

    sha256: str
    size: int


class Manifest(Record):
    """Every file of an archive, by name; `config_hash` is that of the sweep's configuration."""

    format: Annotated[int, Field(ge=1)] = 1
    testbed: str
    name: str
    config_hash: str
    files: dict[str, Member]


@dataclass(frozen=True)
class Packed:
    """The number of files packed or unpacked, their total size in bytes, and the SHA-256 of their manifest."""

    files: int
    size: int
    digest: str

    @classmethod
    def of(cls, manifest: Manifest, content: bytes) -> Packed:
        """From a manifest and the bytes it was written as."""
        size = sum(member.size for member in manifest.files.values())
        return cls(len(manifest.files), size, hashlib.sha256(content).hexdigest())


def belongs(name: str) -> bool:
    """Whether a sweep's archive may hold a file of this name."""
    return _BELONGS.fullmatch(name) is not None


def records(sweep: SweepFolder, checkpoints: bool) -> Iterator[tuple[str, Path]]:
    """Name and path of each file to pack, except the points table; `checkpoints` adds weights and checkpoints.

    Raises:
        FolderError: A file is a link, which would pack something outside the folder.
    """
    found = [sweep.path / name for name in _OF_SWEEP] + sorted((sweep.path / "report").glob("*"))
    for run in map(sweep.run, sweep.specs):
        found += [run.path / name for name in _OF_RUN] + sorted((run.path / "sessions").glob("*.json"))
        found += sorted(run.path.glob("*.safetensors")) if checkpoints else []
    for path in found:
        name = path.relative_to(sweep.path).as_posix()
        if path.is_symlink() or any(parent.is_symlink() for parent in path.relative_to(sweep.path).parents[:-1]):
            raise FolderError(f"{path}: a link; an archive takes files only, put the file itself there")
        if path.is_file() and belongs(name):
            yield name, path
