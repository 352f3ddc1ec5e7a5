"""Training runs side by side: a trunk at constant rate and a cooldown branch at each horizon.

The loop makes no decisions: every step, rate and evaluation is in the specs. Batches and rates are pure
functions of the step, so runs that were resumed, or branched from a checkpoint, pass through the same states
as runs that were not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from testbed.records import Eval, Horizon, Phase, RunSpec, Segment
from testbed.training.data import TokenSource
from testbed.training.recipe import schedule_of
from testbed.training.train import ranks
from testbed.training.train.checkpoints.checkpoint import Checkpoint, Cursor, restore_generators, save_weights
from testbed.training.train.checkpoints.rotation import PATHS, Checkpoints
from testbed.training.train.checkpoints.validity import cursor_fault, tensors_fault
from testbed.training.train.device.selection import make_repeatable
from testbed.training.train.divergence import look, reason_of
from testbed.training.train.evaluation import bits_per_byte
from testbed.training.train.events import Diverged, Event, Finished, Interruptions, Logged, Paused, Progress, Warned
from testbed.training.train.learner import Learner
from testbed.training.train.learners import make_learner, retire
from testbed.training.train.memory.shortage import no_room, with_room

_PROGRESS_SECONDS = 0.5
_FINITE_EVERY = 32  # steps between checks of the losses; a check makes a GPU wait

_UNDISTURBED = Interruptions()

Keys = frozenset[tuple[int | None, int]]


def train(
    specs: tuple[RunSpec, ...],
    source: TokenSource,
    folders: tuple[Path, ...],
    device: torch.device,
    recorded: tuple[Keys, ...] = (),
    interruptions: Interruptions = _UNDISTURBED,
) -> Iterator[Event]:
    """Train a pack: `specs` that differ in seeds and learning rates only, each in its folder.

    Yields evaluations in order, progress now and then, and the totals at the end. Resumes from the
    checkpoints in the first run's folder; evaluations whose key is in the run's `recorded` are not repeated.
    Leaves weights.safetensors in every folder: the annealed weights of the last horizon.

    Raises:
        Paused: `interruptions.stop` asked to stop; the checkpoint is written.
        RunFailed: not even the smallest pass fits into memory.
    """
    pack = Pack(specs, source, folders, device, recorded or (frozenset(),) * len(specs), interruptions)
    yield from pack.resume()
    yield Progress(pack.cursor.spent_steps)
    while (segment := pack.cursor.segment(specs[0])) is not None:
        yield from pack.advance(segment)
        if pack.lost:
            return
        if segment.branch is None:
            pack.save("trunk")
            pack.cursor.in_branch = True
        else:
            yield from pack.finish_branch()
    retire(pack.learner, specs, device)
    yield Finished(pack.cursor.spent_steps, pack.cursor.spent_tokens, pack.seconds)


class Pack:
    """The state of one pack while it trains: position, evaluations due, checkpoints."""

    def __init__(
        self,
        specs: tuple[RunSpec, ...],
        source: TokenSource,
        folders: tuple[Path, ...],
        device: torch.device,
        recorded: tuple[Keys, ...],
        interruptions: Interruptions,
    ) -> None:
        make_repeatable(specs[0].deterministic)
        self.specs, self.folders, self.recorded, self.interruptions = specs, folders, recorded, interruptions
        self.device = device
        self.schedule = schedule_of(specs[0].schedule)
        self.evaluated = frozenset(key for segment in specs[0].segments for key in segment.eval_keys)
        alone = specs[0].engine.processes == 1
        self.learner = with_room(lambda: make_learner(specs, source, device), self._fail, lambda: alone)
        self.cursor = Cursor(run_ids=" ".join(spec.run_id for spec in specs))
        self.checkpoints = Checkpoints(folders[0], self.cursor.run_ids, _fault_in(specs, self.learner))
        self.saved = time.monotonic()

    def _fail(self, asked: str) -> None:
        raise no_room("the network with its optimiser", asked, self.specs[0], self.device)

    @property
    def lost(self) -> bool:
        """Whether every run has diverged."""
        return len(self.cursor.diverged) == len(self.specs)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, the share of one run."""
        return self.cursor.spent_seconds / len(self.specs)

    def resume(self) -> Iterator[Event]:
        """Take the state of the latest intact checkpoint: in a branch, on the trunk, or the start if there is none."""
        found = self.checkpoints.latest(*PATHS)
        if found is not None:
            self._take(found)
        ranks.wait()  # until all processes of the run have read them: one of them writes
        yield from self._problems(found)
        for run, reason in self.cursor.diverged.items():
            yield Diverged(int(run), reason)

    def advance(self, segment: Segment) -> Iterator[Event]:
        """Optimiser steps to the segment's end, with the evaluations that are due; ends early when every run has diverged."""
        branch, until = segment.branch, segment.end
        reported = clock = time.monotonic()
        while self.cursor.step < until and not self.lost:
            self._optimise(branch)
            due = (branch.tokens if branch else None, self.cursor.step) in self.evaluated
            now = time.monotonic()
            self.cursor.spent_seconds, clock = self.cursor.spent_seconds + now - clock, now
            if due or self.cursor.step % _FINITE_EVERY == 0:
                yield from self._diverging()
            if due:
                yield from self._evaluations(branch, until)
            yield from map(Warned, self.learner.notes())
            if now - reported > _PROGRESS_SECONDS:
                reported = now
                yield Progress(self.cursor.spent_steps)
            stopping, saving = ranks.agreed(
                self.interruptions.stop(), now - self.saved > self.interruptions.checkpoint_seconds
            )
            if stopping or saving:
                self.save("branch" if branch else "trunk")
            if stopping:
                yield Progress(self.cursor.spent_steps)
                raise Paused
            clock = time.monotonic()

    def save(self, path: str) -> None:
        """A checkpoint of the current state."""
        state = self.learner.state()
        self.cursor.rows = self.learner.rows
        if ranks.leads():
            self.interruptions.check()
            self.checkpoints.save(path, state, self.cursor)
        ranks.wait()
        self.saved = time.monotonic()

    def finish_branch(self) -> Iterator[Event]:
        """Leave a finished branch: return to its trunk, or, after the last one, save its weights.

        If the trunk's latest checkpoint is damaged, return to its predecessor or to the start; the steps done
        again count once.
        """
        branch = self.cursor
        if branch.horizon + 1 == len(self.specs[0].horizons):
            for run, (spec, folder) in enumerate(zip(self.specs, self.folders, strict=True)):
                weights = self.learner.weights(run)
                if ranks.leads():
                    self.interruptions.check()
                    save_weights(folder / "weights.safetensors", weights, {"run_id": spec.run_id})
            branch.horizon += 1
            return
        trunk = self.checkpoints.latest("trunk")
        if trunk is not None:
            self._take(trunk)
        else:
            self.learner.restart(self.specs)
            self.cursor = Cursor(run_ids=branch.run_ids)
        yield from self._problems(trunk)
        again = self.specs[0].horizons[branch.horizon].branch_step - self.cursor.step
        self.cursor = self.cursor.model_copy(
            update={
                "horizon": branch.horizon + 1,
                "spent_steps": branch.spent_steps - again,
                "spent_tokens": branch.spent_tokens - again * self.specs[0].batch_tokens,
                "spent_seconds": branch.spent_seconds,
                "diverged": branch.diverged,
            }
        )
        self.save("trunk")
        if ranks.leads():
            self.checkpoints.drop("branch")

    def _optimise(self, branch: Horizon | None) -> None:
        """One optimiser step on the trunk or on `branch`."""
        cursor, spec = self.cursor, self.specs[0]
        self.learner.optimise(cursor.step, self._factor(cursor.step, branch))
        cursor.loss_count += 1
        cursor.step += 1
        cursor.spent_steps += 1
        cursor.tokens += spec.batch_tokens
        cursor.spent_tokens += spec.batch_tokens

    def _factor(self, step: int, branch: Horizon | None) -> float:
        spec = self.specs[0]
        return self.schedule.factor(step, spec.warmup_steps, branch)

    def _evaluations(self, branch: Horizon | None, until: int) -> Iterator[Logged]:
        """The losses of the runs that have not logged them yet; annealed if the branch ends at step `until`."""
        key = (branch.tokens if branch else None, self.cursor.step)
        waiting = [
            k for k in range(len(self.specs)) if str(k) not in self.cursor.diverged and key not in self.recorded[k]
        ]
        if waiting:
            losses, sums = self.learner.validate(), self.learner.loss_sums()
            for run in waiting:
                yield Logged(run, self._eval(self.specs[run], branch, until, losses[run], sums[run]))
        self.learner.clear_losses()
        self.cursor.loss_count, self.cursor.looks = 0, self.cursor.looks.cleared()

    def _eval(self, spec: RunSpec, branch: Horizon | None, until: int, loss: float, loss_sum: float) -> Eval:
        step = self.cursor.step
        phase: Phase = "stable" if branch is None else "annealed" if step == until else "decaying"
        return Eval(
            phase=phase,
            horizon=branch.tokens if branch else None,
            step=step,
            tokens=self.cursor.tokens,
            flops=self.cursor.tokens * spec.counts.flops_per_token,
            loss=loss,
            bpb=bits_per_byte(loss, spec.data),
            train_loss=loss_sum / self.cursor.loss_count if self.cursor.loss_count else None,
            lr=spec.lr * self._factor(step - 1, branch),
            seconds=round(self.seconds, 3),
        )

    def _diverging(self) -> Iterator[Diverged]:
        """Check the losses; yields the runs that have diverged since the last check."""
        cursor, spec = self.cursor, self.specs[0]
        cursor.looks = look(cursor.looks, self.learner.loss_sums(), cursor.loss_count, cursor.step, spec)
        for run in range(len(self.specs)):
            reason = reason_of(cursor.looks, run, cursor.step, spec)
            if reason is not None and str(run) not in cursor.diverged:
                cursor.diverged[str(run)] = reason
                yield Diverged(run, reason)

    def _take(self, found: Checkpoint) -> None:
        self.learner.load(found.tensors)
        restore_generators(found.tensors)
        self.cursor = found.cursor
        if found.cursor.rows is not None:
            self.learner.split(found.cursor.rows)

    def _problems(self, used: Checkpoint | None) -> Iterator[Warned]:
        """Warnings about damaged checkpoints, which are renamed."""
        if self.checkpoints.has_problems:
            ranks.wait()  # all processes have seen them
            if ranks.leads():
                self.checkpoints.quarantine()
            yield from map(Warned, self.checkpoints.problems(used))


def _fault_in(specs: tuple[RunSpec, ...], learner: Learner) -> Callable[[Checkpoint], str | None]:
    """Why a checkpoint is no state that the runs go through; holds no Pack, which holds its checkpoints."""
    return lambda found: cursor_fault(found.cursor, specs) or tensors_fault(found.tensors, learner.layout())
