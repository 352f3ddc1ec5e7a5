"""What both learners do where memory runs out in a step: the step again, in passes of half as many windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.train.device.cuda_graphs import WholeStep, label
from testbed.training.train.memory.footprint import share_rows
from testbed.training.train.memory.shortage import no_room, with_room


class Halving:
    """The passes of a learner: their windows, the captured step, and the retry where memory runs out.

    A step can be repeated until its optimiser changes weights (`_updating`), and only in a run of one process.
    `rows` are the windows of a pass once they were halved, None as long as they are as the spec says.
    """

    def __init__(self, spec: RunSpec, device: torch.device, unit: str = "windows") -> None:
        """`unit` is what a pass is counted in, for messages."""
        self._spec, self._device, self._unit = spec, device, unit
        self._alone = spec.engine.processes == 1
        self._is_updating = False
        self._notes: list[str] = []
        self.rows: int | None = None
        self.whole_step = self._uncaptured()

    def split(self, rows: int) -> None:
        """Make passes of at most `rows` windows from here on; the step is captured again."""
        self.rows = rows
        self.whole_step = self._uncaptured()

    def notes(self) -> list[str]:
        """What went wrong since the last call and was handled, in sentences."""
        notes, self._notes = self._notes, []
        return notes

    @property
    def _pass_rows(self) -> int:
        """Windows of one forward and backward pass."""
        share = share_rows(self._spec)
        return self.rows or min(self._spec.engine.micro_rows or share, share)

    def _do(
        self,
        prepare: Callable[[], None],
        step: Callable[[], None],
        state: Callable[[], dict[str, Tensor]],
        clear: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare and do a step that changes the tensors of `state`; `clear` drops what a failed one left behind."""

        def work() -> None:
            prepare()
            self.whole_step(step, state, clear)

        def halve(asked: str) -> None:
            clear()
            rows = self._pass_rows
            if rows == 1 or not self._repeatable:
                raise no_room(f"a pass of {rows} {self._unit}", asked, self._spec, self._device)
            self.split((rows + 1) // 2)
            self._notes.append(f"out of memory with {rows} {self._unit} a pass: going on with {self.rows}")

        with_room(work, halve, lambda: self._repeatable)

    @contextmanager
    def _updating(self) -> Iterator[None]:
        """Around the optimiser's update, after which a step cannot be repeated."""
        self._is_updating = True
        yield
        self._is_updating = False  # not where the update failed: it may have changed some of the weights

    @property
    def _repeatable(self) -> bool:
        return self._alone and not self._is_updating

    def _uncaptured(self) -> WholeStep:
        """A step that is captured when it is first done; exchanges between processes are not captured."""
        return WholeStep(label(self._spec), self._device.type == "cuda" and self._alone)
