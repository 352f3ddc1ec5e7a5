"""Training one run: a trunk at constant rate and a cooldown branch at each horizon.

Decides nothing: every step, rate and evaluation is in the spec. Batches and rates are pure functions
of the step, so a run that was stopped and resumed, or branched from a checkpoint, goes through the
very states of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from testbed.data import BlockReader, TokenSource
from testbed.errors import RunFailed
from testbed.models import find_family
from testbed.records import Eval, Horizon, Phase, RunSpec
from testbed.train.checkpoint import Cursor, load_checkpoint, read_cursor, save_checkpoint, save_weights
from testbed.train.device import make_repeatable
from testbed.train.evaluation import bits_per_byte, token_losses, validation_loss
from testbed.train.optimizer import clip_gradients, make_optimizer, set_rates
from testbed.train.schedule import branch_eval_steps, lr_factor

_PROGRESS_SECONDS = 0.5
_FINITE_EVERY = 32  # steps between looks at the loss; a look makes a GPU wait


class Paused(Exception):
    """The run was asked to stop; its checkpoint is written."""


@dataclass(frozen=True)
class Progress:
    """Optimiser steps done so far, of spec.steps."""

    steps: int


@dataclass(frozen=True)
class Finished:
    """What the whole run really did: optimiser steps, training tokens, seconds of training."""

    steps: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Interruptions:
    """What may interrupt a run: a request to stop, and the clock that asks for a checkpoint."""

    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = math.inf


def train(
    spec: RunSpec,
    source: TokenSource,
    folder: Path,
    device: torch.device,
    recorded: frozenset[tuple[int | None, int]] = frozenset(),
    interruptions: Interruptions = Interruptions(),
) -> Iterator[Eval | Progress | Finished]:
    """Train `spec`, yielding its evaluations in order, its progress now and then, and what it did at the end.

    Goes on from the checkpoints in `folder`; evaluations whose key is in `recorded` are not repeated.
    Leaves weights.safetensors, the annealed weights of the last horizon. Raises Paused when asked to
    stop and RunFailed when the loss is no longer finite.
    """
    run = TrainingState(spec, source, folder, device, recorded, interruptions)
    run.resume()
    while run.cursor.horizon < len(spec.horizons):
        horizon = spec.horizons[run.cursor.horizon]
        if not run.cursor.in_branch:
            yield from run.advance(horizon.branch_step, spec.trunk_evals, None)
            run.save("trunk")
            run.cursor.in_branch = True
        yield from run.advance(horizon.steps, branch_eval_steps(horizon, spec.branch_evals), horizon)
        run.finish_branch()
    yield Finished(run.cursor.spent_steps, run.cursor.spent_tokens, run.cursor.spent_seconds)


class TrainingState:
    """The mutable things of a run: network, optimiser, cursor."""

    def __init__(
        self,
        spec: RunSpec,
        source: TokenSource,
        folder: Path,
        device: torch.device,
        recorded: frozenset[tuple[int | None, int]],
        interruptions: Interruptions,
    ) -> None:
        make_repeatable(spec.deterministic)
        family = find_family(spec.shape.family)
        self.spec, self.folder, self.recorded, self.interruptions = spec, folder, recorded, interruptions
        self.device = device
        self.network = family.build(spec.shape, spec.init_seed).to(device)
        self.optimizer = make_optimizer(self.network, family.hidden_matrices(self.network), spec)
        self.read = BlockReader(source, spec.data_seed, spec.batch_tokens // spec.shape.seq_len)
        self.validation = self._to_device(source.validation())
        self.cursor = Cursor(spec.run_id)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Stand where the newest checkpoint stands: inside a branch, else on the trunk, else at the start."""
        trunk = read_cursor(self._checkpoint("trunk"), self.spec.run_id)
        branch = read_cursor(self._checkpoint("branch"), self.spec.run_id)
        if trunk is None:
            return
        inside = branch is not None and branch.horizon == trunk.horizon
        self._load("branch" if inside else "trunk")

    def advance(self, until: int, eval_steps: tuple[int, ...], branch: Horizon | None) -> Iterator[Eval | Progress]:
        """Optimiser steps up to `until`, with the evaluations that fall due."""
        reported = clock = time.monotonic()
        while self.cursor.step < until:
            self.optimise(branch)
            due = self.cursor.step in eval_steps
            now = time.monotonic()
            self.cursor.spent_seconds, clock = self.cursor.spent_seconds + now - clock, now
            if due or self.cursor.step % _FINITE_EVERY == 0:
                self._check_finite()
            if due:
                key = (branch.tokens if branch else None, self.cursor.step)
                if key not in self.recorded:
                    yield self.evaluate(branch, until)
                self.loss_sum.zero_()
                self.cursor.loss_count = 0
            if now - reported > _PROGRESS_SECONDS:
                reported = now
                yield Progress(self.cursor.spent_steps)
            stopping = self.interruptions.stop()
            if stopping or now - self.saved > self.interruptions.checkpoint_seconds:
                self.save("branch" if branch else "trunk")
            if stopping:
                raise Paused
            clock = time.monotonic()

    def save(self, path: str) -> None:
        """A checkpoint of the current state."""
        self.cursor.loss_sum = float(self.loss_sum)
        save_checkpoint(self._checkpoint(path), self.network, self.optimizer, self.cursor)
        self.saved = time.monotonic()

    def finish_branch(self) -> None:
        """Leave a finished branch: back to its trunk, or, after the last one, keep its weights."""
        branch = self.cursor
        if branch.horizon + 1 == len(self.spec.horizons):
            save_weights(self.folder / "weights.safetensors", self.network, {"run_id": self.spec.run_id})
            branch.horizon += 1
            return
        self._load("trunk")
        self.cursor = replace(
            self.cursor,
            horizon=branch.horizon + 1,
            spent_steps=branch.spent_steps,
            spent_tokens=branch.spent_tokens,
            spent_seconds=branch.spent_seconds,
        )
        self.save("trunk")
        self._checkpoint("branch").unlink(missing_ok=True)

    def optimise(self, branch: Horizon | None) -> None:
        """One optimiser step on the trunk or on `branch`."""
        windows = self._to_device(self.read(self.cursor.step))
        set_rates(self.optimizer, lr_factor(self.cursor.step, self.spec.warmup_steps, branch))
        bf16 = self.spec.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = self.network(windows[:, :-1])
        loss = token_losses(logits, windows, self.spec.data.first_scored).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.network.parameters(), self.spec.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss_sum += loss.detach()
        cursor, tokens = self.cursor, windows[:, :-1].numel()
        cursor.loss_count += 1
        cursor.step += 1
        cursor.spent_steps += 1
        cursor.tokens += tokens
        cursor.spent_tokens += tokens

    def evaluate(self, branch: Horizon | None, until: int) -> Eval:
        """The loss now; annealed where the branch ends at step `until`."""
        spec, step = self.spec, self.cursor.step
        phase: Phase = "stable" if branch is None else "annealed" if step == until else "decaying"
        loss = validation_loss(self.network, self.validation, spec.data, spec.precision == "bf16")
        return Eval(
            phase=phase,
            horizon=branch.tokens if branch else None,
            step=step,
            tokens=self.cursor.tokens,
            flops=self.cursor.tokens * spec.counts.flops_per_token,
            loss=loss,
            bpb=bits_per_byte(loss, spec.data),
            train_loss=float(self.loss_sum) / self.cursor.loss_count if self.cursor.loss_count else None,
            lr=spec.lr * lr_factor(step - 1, spec.warmup_steps, branch),
            seconds=round(self.cursor.spent_seconds, 3),
        )

    def _check_finite(self) -> None:
        if not math.isfinite(float(self.loss_sum)):
            raise RunFailed(
                f"the training loss was not finite by step {self.cursor.step} ({self.cursor.tokens} "
                "tokens); lower train.lr, or raise train.warmup_steps"
            )

    def _load(self, path: str) -> None:
        cursor = read_cursor(self._checkpoint(path), self.spec.run_id)
        assert cursor is not None
        load_checkpoint(self._checkpoint(path), self.network, self.optimizer)
        self.cursor = cursor
        self.loss_sum.fill_(cursor.loss_sum)

    def _checkpoint(self, path: str) -> Path:
        return self.folder / f"{path}.safetensors"

    def _to_device(self, windows: object) -> Tensor:
        return torch.as_tensor(windows).to(self.device, torch.long)
