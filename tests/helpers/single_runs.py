"""Runs and packs trained in the test's own process, and what their folders hold."""

import numpy as np
import torch

from testbed.records import Engine, Eval
from testbed.training.models import find_family
from testbed.training.sweep import packed
from testbed.training.train import Interruptions, Logged, Progress, train
from testbed.training.train.memory.footprint import share_rows
from testbed.training.train.module_learner import ModuleLearner

CPU = torch.device("cpu")
UNDISTURBED = Interruptions()


def train_one(spec, source, folder, device, recorded=frozenset(), interruptions=UNDISTURBED):
    """A pack of one run: its evaluations, warnings and end, without the progress that a slow machine reports."""
    for event in train((spec,), source, (folder,), device, (recorded,), interruptions):
        if not isinstance(event, Progress):
            yield event.evaluation if isinstance(event, Logged) else event


def losses(events):
    """Everything of the evaluations but their times."""
    return [e.model_dump(exclude={"seconds"}) for e in events if isinstance(e, Eval)]


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


class StopAfter:
    """Asks for a stop once it has been asked so many times itself: once an optimiser step."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left < 0


def pack_of(spec, runs, **changes):
    """So many runs of one shape that differ in everything a pack's runs may differ in."""
    alike = [
        spec.model_copy(
            update={
                "init_seed": run,
                "data_seed": 10 + run,
                "lr": spec.lr * (1 + run / 4),
                "lr_hidden": spec.lr_hidden * (1 + run / 4),
            }
            | changes
        )
        for run in range(runs)
    ]
    return packed(alike, runs)


def alone(spec):
    """The same run by its family's own module."""
    return packed((spec,), None)[0]


def kept_bytes(spec, source):
    """Bytes that a forward pass really keeps for the way back, those of the logits' losses included."""
    learner = ModuleLearner(spec, source, CPU)
    windows = torch.as_tensor(source.rows(1, 0, share_rows(spec)).astype(np.int64))
    own = {t.untyped_storage().data_ptr() for t in (*learner.network.parameters(), *learner.network.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=spec.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bf16:
        loss = learner._scored(windows)
    total = sum(kept.values())
    del loss
    return total


def shaped(spec, family, rows=8, width=64, depth=3, **engine):
    shape = spec.shape.model_copy(update={"family": family, "width": width, "heads": width // 8, "depth": depth})
    counts = find_family(family).counts(shape)
    return spec.model_copy(
        update={
            "shape": shape,
            "counts": counts,
            "engine": Engine(**engine),
            "batch_tokens": rows * shape.seq_len,
        }
    )
