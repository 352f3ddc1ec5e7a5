"""Sizes of a network's activations and their changes over the first steps: the data of a coordinate check.

Measures only; `analysis.certificate.coordinate_check` judges the learning-rate rule. The check is that of
arXiv:2203.03466, section 3.3 and appendix D.1: with a right rule no activation's change grows or vanishes with
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.models import find_family
from testbed.training.train.device.recompute import layers_of
from testbed.training.train.device.selection import make_repeatable, set_precision
from testbed.training.train.module_learner import ModuleLearner

_TOKENS = 1024  # of validation windows on which activations are measured, about
_MLP = ("mlp", "feed_forward", "ffn", "fc2", "down")  # names of the feed-forward's output in the families


def measure_coordinates(spec: RunSpec, source: TokenSource, device: torch.device, steps: int) -> pd.DataFrame:
    """One row a kind and step (0 to `steps`), of a run of this shape without warm-up, trained by its family's module.

    Columns: width, init_seed, step, kind, size (root mean square over windows, positions and features),
    change (root mean square of the difference from step 0). Kinds: embedding, attention, mlp, block, logits;
    attention, mlp and block are averaged over all blocks; kinds that a family's module does not name are left out.
    """
    make_repeatable(spec.deterministic)
    set_precision(spec.precision, device)
    learner = ModuleLearner(spec, source, device)
    windows = torch.as_tensor(source.validation()[: max(1, _TOKENS // spec.shape.seq_len)]).to(device, torch.long)
    layers = layers_of(learner.network, find_family(spec.shape.family))
    first = _activations(learner.network, layers, windows[:, :-1])
    rows = _rows(spec, 0, first, first)
    for step in range(steps):
        learner.optimise(step, 1.0)
        rows += _rows(spec, step + 1, _activations(learner.network, layers, windows[:, :-1]), first)
    return pd.DataFrame(rows)


def _rows(
    spec: RunSpec, step: int, now: dict[str, list[Tensor]], first: dict[str, list[Tensor]]
) -> list[dict[str, Any]]:
    return [
        {
            "width": spec.shape.width,
            "init_seed": spec.init_seed,
            "step": step,
            "kind": kind,
            "size": _rms(now[kind]),
            "change": _rms([a - b for a, b in zip(now[kind], first[kind], strict=True)]),
        }
        for kind in now
    ]


def _rms(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.double().square().mean() for t in tensors]).mean().sqrt())


@torch.no_grad()
def _activations(network: nn.Module, layers: Sequence[nn.Module], ids: Tensor) -> dict[str, list[Tensor]]:
    """Outputs of the network's parts on ids [B, T], by kind."""
    found: dict[str, list[Tensor]] = {}
    with _watching(network, layers, found):
        network.eval()
        found["logits"] = [network(ids).float()]
        network.train()
    return found


@contextmanager
def _watching(network: nn.Module, layers: Sequence[nn.Module], found: dict[str, list[Tensor]]) -> Iterator[None]:
    def keep(kind: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            found.setdefault(kind, []).append(tensor.detach().float().clone())

        return hook

    handles = [module.register_forward_hook(keep(kind)) for module, kind in _places(network, layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(network: nn.Module, layers: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, str]]:
    """The modules whose outputs are the kinds: the first embedding, and the blocks with their parts."""
    embeddings = [m for m in network.modules() if isinstance(m, nn.Embedding)]
    if embeddings:
        yield embeddings[0], "embedding"
    for block in layers:
        yield block, "block"
        for name, part in block.named_children():
            if "att" in name and not any(other in name for other in ("norm", "dropout")):
                yield part, "attention"
            elif name in _MLP:
                yield part, "mlp"
