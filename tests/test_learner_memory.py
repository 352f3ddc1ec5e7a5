"""Learners that nobody uses any longer give their memory back; where it runs out, first what is idle goes."""

import gc
import weakref

import pytest
import torch

from testbed.training.sweep import packed
from testbed.training.train import Interruptions, Paused, idle, train
from testbed.training.train.device.cuda_graphs import captures
from testbed.training.train.learners import make_learner, retire
from testbed.training.train.memory import shortage
from testbed.training.train.memory.peak import give_back
from testbed.training.train.memory.shortage import with_room
from testbed.training.train.module_learner import ModuleLearner
from tests.helpers.devices import DEVICES, gpu, runs
from tests.helpers.single_runs import StopAfter

CPU = torch.device("cpu")
PACKS = [None, 1, 3]


@pytest.fixture
def uncollected():
    """Only reference counts free what is used no longer."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def no_idle():
    idle.let_go()
    yield
    idle.let_go()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pack", PACKS)
def test_a_learner_is_freed_as_soon_as_nobody_uses_it(tiny_spec, tiny_source, pack, device, uncollected):
    device, specs = torch.device(device), runs(tiny_spec, pack)
    make_learner(specs, tiny_source, device).optimise(0, 0.5)  # libraries import what they need
    gc.collect()
    learner = make_learner(specs, tiny_source, device)
    learner.optimise(0, 0.5)
    learner.validate()
    freed = weakref.ref(learner)
    del learner
    assert freed() is None


def test_a_stopped_pack_frees_its_learner(tiny_spec, tiny_source, tmp_path, uncollected):
    run = train((tiny_spec,), tiny_source, (tmp_path,), CPU, (), Interruptions(StopAfter(3)))
    next(run)
    freed = weakref.ref(run.gi_frame.f_locals["pack"].learner)
    with pytest.raises(Paused):
        list(run)
    del run
    assert freed() is None


def test_idle_learners_go_where_memory_is_given_back(tiny_spec, tiny_source, no_idle):
    learner = make_learner((tiny_spec,), tiny_source, CPU)
    idle.keep("these runs", learner)
    assert idle.take("these runs") is learner
    idle.keep("these runs", learner)
    freed = weakref.ref(learner)
    del learner
    assert idle.any_kept()
    give_back()
    assert not idle.any_kept()
    assert freed() is None


def test_of_many_idle_learners_the_oldest_goes(tiny_spec, tiny_source, no_idle):
    learner = make_learner((tiny_spec,), tiny_source, CPU)
    for number in range(17):
        idle.keep(str(number), learner)
    assert idle.take("0") is None
    assert all(idle.take(str(number)) is learner for number in range(1, 17))


class Trials:
    """Work for which memory runs out as often as it is told to."""

    def __init__(self, failures):
        self.failures, self.done, self.halved = failures, 0, 0

    def work(self):
        self.done += 1
        if self.done <= self.failures:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
        return "done"

    def halve(self, asked):
        assert asked == "2.15 GB"
        self.halved += 1


@pytest.mark.parametrize(
    ("freed", "unchanged", "failures", "halved"),
    [(True, True, 1, 0), (True, True, 2, 1), (True, True, 3, 2), (True, False, 1, 1), (False, True, 1, 1)],
)
def test_the_same_is_tried_again_once_where_something_was_freed(monkeypatch, freed, unchanged, failures, halved):
    monkeypatch.setattr(shortage, "give_back", lambda: freed)
    trials = Trials(failures)
    assert with_room(trials.work, trials.halve, lambda: unchanged) == "done"
    assert trials.halved == halved


def test_without_a_gpu_nothing_counts_as_freed():
    assert not give_back()


@gpu
def test_a_captured_learner_gives_its_memory_back(tiny_spec, tiny_source, device, uncollected):
    device, spec = torch.device(device), tiny_spec.model_copy(update={"batch_tokens": 1 << 20})
    make_learner((tiny_spec,), tiny_source, device).optimise(0, 0.5)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    learner = make_learner((spec,), tiny_source, device)
    learner.optimise(0, 0.5)
    assert learner.whole_step.captured
    assert torch.cuda.memory_reserved() > before + (64 << 20)
    del learner
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before + (8 << 20)


@gpu
@pytest.mark.parametrize("pack", [None, 1])
def test_a_run_has_the_memory_of_idle_learners_before_it_is_halved(tiny_spec, tiny_source, pack, device, no_idle):
    device, total = torch.device(device), torch.cuda.mem_get_info()[1]
    specs = packed([tiny_spec.model_copy(update={"batch_tokens": 1 << 20})], pack)
    others = packed([tiny_spec.model_copy(update={"batch_tokens": 1 << 20, "clip": None})], pack)
    give_back()
    before = torch.cuda.memory_reserved()
    learner = make_learner(others, tiny_source, device)
    learner.optimise(0, 0.5)
    retire(learner, others, device)
    del learner
    torch.cuda.empty_cache()
    kept = torch.cuda.memory_reserved() - before
    spare = 192 << 20  # holds the second learner, and not its step
    assert kept > 2 * spare
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)
        second = make_learner(specs, tiny_source, device)
        assert idle.any_kept()
        second.optimise(0, 0.5)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not idle.any_kept()
    assert second.rows is None
    assert second.notes() == []
    assert second.whole_step.captured


@gpu
def test_a_step_that_cannot_be_captured_leaves_captures_random_numbers_and_memory_in_order(
    tiny_spec, tiny_source, device
):
    class Waiting(ModuleLearner):
        def _step(self):
            super()._step()
            float(self._loss_sum)  # waits for the device, which no capture may

    device, before = torch.device(device), captures.total()
    first = ModuleLearner(tiny_spec, tiny_source, device)
    first.optimise(0, 0.5)
    waiting = Waiting(tiny_spec, tiny_source, device)
    waiting.optimise(0, 0.5)
    assert not waiting.whole_step.captured
    torch.randn(3, device=device)  # which raises while the generator takes itself to be captured
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    torch.empty(256 << 20, dtype=torch.uint8, device=device)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= held
    after = ModuleLearner(tiny_spec, tiny_source, device)
    after.optimise(0, 0.5)
    assert captures.total() == before + 2
    first.optimise(1, 0.5)
    after.optimise(1, 0.5)
    assert first.loss_sums() == after.loss_sums()
