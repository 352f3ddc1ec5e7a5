"""The checkpoints of one pack: of its trunk and of the branch it is in, each with the one before.

Every sound one is a state that the undisturbed runs go through too, so whichever is gone on from, the
losses are the same; the furthest costs least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from testbed.training.train.checkpoints.checkpoint import (
    Checkpoint,
    Cursor,
    Unsound,
    read_checkpoint,
    read_cursor,
    save_checkpoint,
)

PATHS = ("trunk", "branch")


class Shelf:
    """Checkpoints in one folder, of the runs `run_ids`; `fault` says why one of theirs cannot be gone on from."""

    def __init__(self, folder: Path, run_ids: str, fault: Callable[[Checkpoint], str | None]) -> None:
        self._folder, self._run_ids, self._fault = folder, run_ids, fault
        self._unsound: dict[Path, str] = {}

    def save(self, path: str, tensors: dict[str, Tensor], cursor: Cursor) -> None:
        """A checkpoint of the trunk or the branch; the one before is kept."""
        newest, previous = self._files(path)
        save_checkpoint(newest, tensors, cursor, previous)

    def furthest(self, *paths: str) -> Checkpoint | None:
        """The sound checkpoint that is furthest on, None where none is; those that were no good are remembered."""
        found = []
        for file in (file for path in paths for file in self._files(path) if file.exists()):
            try:
                found.append((read_cursor(file, self._run_ids).progress, file))
            except Unsound as reason:
                self._unsound[file] = str(reason)
        for _, file in sorted(found, reverse=True):
            try:
                checkpoint = read_checkpoint(file, self._run_ids)
            except Unsound as reason:
                self._unsound[file] = str(reason)
                continue
            fault = self._fault(checkpoint)
            if fault is None:
                return checkpoint
            self._unsound[file] = f"no state that the runs go through ({fault})"
        return None

    def drop(self, path: str) -> None:
        """The path's checkpoints are not needed any more."""
        for file in self._files(path):
            file.unlink(missing_ok=True)

    @property
    def has_unsound(self) -> bool:
        """Whether checkpoints were no good."""
        return bool(self._unsound)

    def complaints(self, used: Checkpoint | None) -> Iterator[str]:
        """What was no good and what was gone on from instead, a sentence each, once."""
        instead = (
            f"going on from {used.path.name}, step {used.cursor.step}" if used else "no other is sound: starting over"
        )
        yield from (f"{file}: {reason}; {instead}" for file, reason in self._unsound.items())
        self._unsound.clear()

    def set_aside(self) -> None:
        """Take those that were no good out of the way, lest they become the one before; a later one takes their place."""
        for file in self._unsound:
            if file.exists():
                file.replace(file.with_suffix(".damaged"))

    def _files(self, path: str) -> tuple[Path, Path]:
        return self._folder / f"{path}.safetensors", self._folder / f"{path}.previous.safetensors"
