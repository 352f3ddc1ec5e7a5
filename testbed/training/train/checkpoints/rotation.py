"""The checkpoints of one pack: the latest of its trunk and of its current branch, each with its predecessor.

Every intact checkpoint is a state that undisturbed runs pass through, so the losses are the same whichever
one is resumed; the latest saves most work.
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


class Checkpoints:
    """Checkpoints of the runs `run_ids` in one folder; `fault` returns why a checkpoint cannot be resumed, or None."""

    def __init__(self, folder: Path, run_ids: str, fault: Callable[[Checkpoint], str | None]) -> None:
        self._folder, self._run_ids, self._fault = folder, run_ids, fault
        self._damaged: dict[Path, str] = {}

    def save(self, path: str, tensors: dict[str, Tensor], cursor: Cursor) -> None:
        """Write a checkpoint of the trunk or the branch; its predecessor is kept."""
        newest, previous = self._files(path)
        save_checkpoint(newest, tensors, cursor, previous)

    def latest(self, *paths: str) -> Checkpoint | None:
        """The intact checkpoint with most progress, or None; damaged ones are remembered (see `problems`)."""
        found = []
        for file in (file for path in paths for file in self._files(path) if file.exists()):
            try:
                cursor = read_cursor(file, self._run_ids)
                found.append((cursor.place, cursor.step, file))
            except Unsound as reason:
                self._damaged[file] = str(reason)
        for *_, file in sorted(found, reverse=True):
            try:
                checkpoint = read_checkpoint(file, self._run_ids)
            except Unsound as reason:
                self._damaged[file] = str(reason)
                continue
            fault = self._fault(checkpoint)
            if fault is None:
                return checkpoint
            self._damaged[file] = f"not a state of these runs ({fault})"
        return None

    def drop(self, path: str) -> None:
        """Delete the checkpoints of a path that is finished."""
        for file in self._files(path):
            file.unlink(missing_ok=True)

    @property
    def has_problems(self) -> bool:
        """Whether checkpoints were found damaged."""
        return bool(self._damaged)

    def problems(self, used: Checkpoint | None) -> Iterator[str]:
        """One warning for each damaged checkpoint, naming the one used instead; each is reported once."""
        instead = (
            f"resuming from {used.path.name}, step {used.cursor.step}" if used else "no other is intact: starting over"
        )
        yield from (f"{file}: {reason}; {instead}" for file, reason in self._damaged.items())
        self._damaged.clear()

    def quarantine(self) -> None:
        """Rename damaged checkpoints, so that the next save does not keep one as its predecessor."""
        for file in self._damaged:
            if file.exists():
                file.replace(file.with_suffix(".damaged"))

    def _files(self, path: str) -> tuple[Path, Path]:
        return self._folder / f"{path}.safetensors", self._folder / f"{path}.previous.safetensors"
