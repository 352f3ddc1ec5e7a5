"""One run, trained through its family's own module: any architecture, autograd, torch's fused AdamW."""

from __future__ import annotations

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.models import find_family
from testbed.training.recipe import part_of
from testbed.training.train.device.cuda_graphs import compiled
from testbed.training.train.device.recompute import layers_of, recompute_layers
from testbed.training.train.evaluation import quick_rows, validation_sum
from testbed.training.train.feed import make_feed
from testbed.training.train.halving import Halving
from testbed.training.train.memory.footprint import share_rows
from testbed.training.train.memory.shortage import no_room, with_room
from testbed.training.train.optimizer import clip_gradients, make_optimizer, moments, set_rates, start_anew
from testbed.training.train.ranks import Ranks, fill, whole
from testbed.training.train.scoring import Scored, scored_tokens


class ModuleLearner(Halving):
    """A learner of one run (K = 1); see `learner.Learner`."""

    def __init__(self, spec: RunSpec, source: TokenSource, device: torch.device) -> None:
        family = find_family(spec.shape.family)
        super().__init__(spec, device)
        self.network = family.build(spec.shape, spec.init_seed).to(device)
        layers = layers_of(self.network, family)
        if spec.engine.recompute:
            recompute_layers(layers)
        self._ranks = Ranks(spec, device)
        scored = Scored(self.network, spec.data)
        if spec.engine.compile:
            scored.decide()
        self._scored = self._ranks.spread(scored, layers)
        self._learn = compiled(self._scored, spec.deterministic) if spec.engine.compile else self._scored
        hidden = family.hidden_matrices(self.network)
        self.optimizer = make_optimizer(self.network, hidden, spec)
        self._parts = [part_of(part).attach(self.network, hidden, spec.horizons[-1]) for part in spec.parts]
        self._feed = make_feed((spec,), source, device)
        self._validation = torch.as_tensor(source.validation()).to(device, torch.long)
        self._loss_sum = torch.zeros(1, dtype=torch.float64, device=device)
        self._scored_rows = max(quick_rows(spec.data), spec.engine.micro_rows or share_rows(spec))

    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Another run of the same shape from its start."""
        (self._spec,) = (spec,) = specs
        fresh = find_family(spec.shape.family).build(spec.shape, spec.init_seed)
        for parameter, drawn in zip(self.network.parameters(), fresh.parameters(), strict=True):
            fill(parameter, drawn)
        start_anew(self.optimizer, (spec.lr_hidden, spec.lr))
        self._feed.restart(specs)
        self._loss_sum.zero_()

    def optimise(self, step: int, factor: float) -> None:
        """One optimiser step; every token of the batch has the same weight, whatever pass it is in."""

        def prepare() -> None:
            self._feed.seek(step)
            for part in self._parts:
                part.seek(step)
            set_rates(self.optimizer, factor)

        self._do(prepare, self._step, self._changing, self.optimizer.zero_grad)

    def _step(self) -> None:
        """The device's part of a step, with the same operations at every step."""
        spec, windows = self._spec, self._feed.windows()[0]
        total = scored_tokens(len(windows), spec.data)
        parts, losses = torch.split(self._ranks.share(windows), self._pass_rows), []
        for index, part in enumerate(parts):
            with self._ranks.passing(self._scored, last=index + 1 == len(parts)):
                with torch.autocast(self._device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
                    loss = self._learn(part) / total
                (loss * self._ranks.count).backward()  # the processes' gradients are averaged
            losses.append(loss.detach())
        clip_gradients(self.network.parameters(), spec.clip)
        with self._updating():
            for each in losses:
                self._loss_sum += each
            self.optimizer.step()
            for attached in self._parts:
                attached.finish()
        self.optimizer.zero_grad()

    def loss_sums(self) -> list[float]:
        """The sum of the training losses [1] in nats/token since `clear_losses`."""
        return [float(self._ranks.all(self._loss_sum).sum())]

    def clear_losses(self) -> None:
        """Set the sum to 0."""
        self._loss_sum.zero_()

    def validate(self) -> list[float]:
        """The loss [1] in nats/token on the frozen windows, of at least a training pass at a time."""
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

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and each process's sum of losses."""
        tensors = {name: whole(tensor) for name, tensor in self._changing().items()}
        return tensors | {"loss_sum": self._ranks.all(self._loss_sum)}

    def layout(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of the whole tensors, with a sum of losses for each process."""
        sums = torch.Size([self._ranks.count * len(self._loss_sum)])
        found = {name: (tensor.shape, tensor.dtype) for name, tensor in self._changing().items()}
        return found | {"loss_sum": (sums, self._loss_sum.dtype)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `state` gave."""
        mine = tensors | {"loss_sum": self._ranks.own(tensors["loss_sum"])}
        for name, tensor in self._changing().items():
            fill(tensor, mine[name])

    def weights(self, run: int) -> dict[str, Tensor]:
        """The network's parameters."""
        return {name: whole(p.detach()) for name, p in self.network.named_parameters()}

    def _changing(self) -> dict[str, Tensor]:
        """The tensors that a step changes, as this process holds them."""
        weights = {f"weight/{name}": p.detach() for name, p in self.network.named_parameters()}
        own = {name: tensor for part in self._parts for name, tensor in part.state().items()}
        return weights | moments(self.network, self.optimizer) | own | {"loss_sum": self._loss_sum}
