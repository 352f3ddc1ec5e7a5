"""Making a learner for the runs of a pack, and keeping it for others of the same kind when they have ended."""

from __future__ import annotations

import torch

from testbed.files import digest
from testbed.records import RunSpec
from testbed.training.data import TokenSource
from testbed.training.train import idle
from testbed.training.train.device.selection import set_precision
from testbed.training.train.feed import sharing
from testbed.training.train.learner import Learner
from testbed.training.train.memory.peak import give_back
from testbed.training.train.module_learner import ModuleLearner
from testbed.training.train.packed_learner import PackedLearner

_IDLE_SHARE = 0.25  # of a device's memory that may be in use when another learner is made beside idle ones


def make_learner(specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Learner:
    """A learner for these runs: a pack of them, or one run by its family's own module.

    An idle learner of the same kind is used again where there is one, since its step is captured and compiled.
    """
    set_precision(specs[0].precision, device)
    alike = idle.take(_likeness(specs, device))
    if alike is not None:
        alike.restart(specs)
        return alike
    if idle.any_kept() and torch.cuda.memory_reserved(device) > _IDLE_SHARE * torch.cuda.mem_get_info(device)[1]:
        give_back()
    if specs[0].engine.pack is None:
        (spec,) = specs
        return ModuleLearner(spec, source, device)
    return PackedLearner(specs, source, device)


def retire(learner: Learner, specs: tuple[RunSpec, ...], device: torch.device) -> None:
    """Keep the learner of finished runs for others of the same kind; the caller must not use it any more.

    A learner whose recipe has parts is not kept: their state belongs to the run.
    """
    first = specs[0]
    if device.type == "cuda" and first.engine.processes == 1 and learner.rows is None and not first.parts:
        idle.keep(_likeness(specs, device), learner)


def _likeness(specs: tuple[RunSpec, ...], device: torch.device) -> str:
    """A name that packs share which one learner can train after each other.

    That takes more than one kind of step: a captured step also holds which runs of the pack share an order
    of the data (they share its memory), and which share a learning rate (they share an update).
    """
    updates = [update for spec in specs for update in ((spec.lr, 0.0), (spec.lr_hidden, spec.weight_decay))]
    equal = [updates.index(update) for update in updates]
    return digest([specs[0].step_kind, sharing(specs), equal, str(device)])
