"""One run, trained through its family's own module: any architecture, autograd, torch's fused AdamW."""

from __future__ import annotations

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.models import find_family
from testbed.training.recipe import part_of
from testbed.training.train.device.cuda_graphs import WholeStep, compiled, label
from testbed.training.train.device.recompute import layers_of, recompute_layers
from testbed.training.train.evaluation import quick_rows, validation_sum
from testbed.training.train.feed import make_feed
from testbed.training.train.memory.footprint import share_rows
from testbed.training.train.memory.shortage import no_room, with_room
from testbed.training.train.optimizer import clip_gradients, make_optimizer, moments, set_rates, start_anew
from testbed.training.train.ranks import Ranks, fill, whole
from testbed.training.train.scoring import Scored, scored_tokens


class ModuleLearner:
    """A learner of one run (K = 1); see `learner.Learner`."""

    def __init__(self, spec: RunSpec, source: TokenSource, device: torch.device) -> None:
        family = find_family(spec.shape.family)
        self._spec, self._device = spec, device
        self.network = family.build(spec.shape, spec.init_seed).to(device)
        layers = layers_of(self.network, family)
        if spec.engine.recompute:
            recompute_layers(layers)
        self._ranks = Ranks(spec, device)
        self._scored = self._ranks.spread(Scored(self.network, spec.data), layers)
        self._learn = compiled(self._scored, spec.deterministic) if spec.engine.compile else self._scored
        hidden = family.hidden_matrices(self.network)
        self.optimizer = make_optimizer(self.network, hidden, spec)
        self._parts = [part_of(part).attach(self.network, hidden, spec.horizons[-1]) for part in spec.parts]
        self._feed = make_feed((spec,), source, device)
        self._validation = torch.as_tensor(source.validation()).to(device, torch.long)
        self._loss_sum = torch.zeros(1, dtype=torch.float64, device=device)
        self._updating = False
        self._notes: list[str] = []
        self._scored_rows = max(quick_rows(spec.data), spec.engine.micro_rows or share_rows(spec))
        self.rows: int | None = None
        self.whole_step = self._uncaptured()

    def _uncaptured(self) -> WholeStep:
        """A step that is captured when it is first done; exchanges between processes are not captured."""
        return WholeStep(label(self._spec), self._device.type == "cuda" and self._alone)

    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Another run of the same shape from its start."""
        (self._spec,) = (spec,) = specs
        fresh = find_family(spec.shape.family).build(spec.shape, spec.init_seed)
        for parameter, drawn in zip(self.network.parameters(), fresh.parameters(), strict=True):
            fill(parameter, drawn)
        start_anew(self.optimizer, (spec.lr_hidden, spec.lr))
        self._feed.restart(specs)
        self._loss_sum.zero_()

    @property
    def _alone(self) -> bool:
        """Whether no other process takes part in the steps."""
        return self._spec.engine.processes == 1

    @property
    def _rows(self) -> int:
        """Windows of one forward and backward pass."""
        share = share_rows(self._spec)
        return self.rows or min(self._spec.engine.micro_rows or share, share)

    def split(self, rows: int) -> None:
        """At most so many windows a pass from here on."""
        self.rows = rows
        self.whole_step = self._uncaptured()

    def optimise(self, step: int, factor: float) -> None:
        """One optimiser step; each token of the batch weighs the same, whatever pass it is in."""

        def work() -> None:
            self._feed.seek(step)
            for part in self._parts:
                part.seek(step)
            set_rates(self.optimizer, factor)
            self.whole_step(self._step, self._changing, self.optimizer.zero_grad)

        with_room(work, self._halve, lambda: self._alone and not self._updating)

    def _halve(self, asked: str) -> None:
        """Memory ran out in a step, which has changed nothing yet: the next try has half the windows a pass."""
        self.optimizer.zero_grad()
        rows = self._rows
        if rows == 1 or self._updating or not self._alone:
            raise no_room(f"a pass of {rows} windows", asked, self._spec, self._device)
        self.split((rows + 1) // 2)
        self._notes.append(f"out of memory with {rows} windows a pass: going on with {self.rows}")

    def _step(self) -> None:
        """The device's part of a step: the same work at every step."""
        spec, windows = self._spec, self._feed.windows()[0]
        total = scored_tokens(len(windows), spec.data)
        parts, losses = torch.split(self._ranks.share(windows), self._rows), []
        for index, part in enumerate(parts):
            with self._ranks.passing(self._scored, last=index + 1 == len(parts)):
                with torch.autocast(self._device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
                    loss = self._learn(part) / total
                (loss * self._ranks.count).backward()  # the processes' gradients are averaged
            losses.append(loss.detach())
        clip_gradients(self.network.parameters(), spec.clip)
        self._updating = True
        for each in losses:
            self._loss_sum += each
        self.optimizer.step()
        for attached in self._parts:
            attached.finish()
        self._updating = False
        self.optimizer.zero_grad()

    def loss_sums(self) -> list[float]:
        """The sum since `clear_losses`."""
        return [float(self._ranks.all(self._loss_sum).sum())]

    def clear_losses(self) -> None:
        """Start the sum anew."""
        self._loss_sum.zero_()

    def validate(self) -> list[float]:
        """The loss on the frozen windows; what a training pass holds, an evaluation holds easily."""
        spec, windows = self._spec, self._ranks.share(self._validation)
        own = with_room(
            lambda: validation_sum(self._scored, windows, self._scored_rows, spec.precision == "bf16"),
            self._score_less,
            lambda: self._alone,
        )
        self._ranks.forget(self._scored)
        return [float(self._ranks.all(own[None]).sum()) / scored_tokens(len(self._validation), spec.data)]

    def _score_less(self, asked: str) -> None:
        rows = self._scored_rows
        if rows == 1 or not self._alone:
            raise no_room(f"an evaluation of {rows} windows at a time", asked, self._spec, self._device)
        self._scored_rows = (rows + 1) // 2
        self._notes.append(f"out of memory evaluating {rows} windows at a time: going on with {self._scored_rows}")

    def notes(self) -> list[str]:
        """What went wrong since the last call and was mended."""
        notes, self._notes = self._notes, []
        return notes

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and each process's sum of losses."""
        tensors = {name: whole(tensor) for name, tensor in self._changing().items()}
        return tensors | {"loss_sum": self._ranks.all(self._loss_sum)}

    def layout(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Those of the whole tensors, and a sum of losses for each process."""
        sums = torch.Size([self._ranks.count * len(self._loss_sum)])
        found = {name: (tensor.shape, tensor.dtype) for name, tensor in self._changing().items()}
        return found | {"loss_sum": (sums, self._loss_sum.dtype)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state."""
        mine = tensors | {"loss_sum": self._ranks.own(tensors["loss_sum"])}
        for name, tensor in self._changing().items():
            fill(tensor, mine[name])

    def weights(self, run: int) -> dict[str, Tensor]:
        """The network's parameters."""
        return {name: whole(p.detach()) for name, p in self.network.named_parameters()}

    def _changing(self) -> dict[str, Tensor]:
        """What a step changes, as it lies in this process."""
        weights = {f"weight/{name}": p.detach() for name, p in self.network.named_parameters()}
        own = {name: tensor for part in self._parts for name, tensor in part.state().items()}
        return weights | moments(self.network, self.optimizer) | own | {"loss_sum": self._loss_sum}
