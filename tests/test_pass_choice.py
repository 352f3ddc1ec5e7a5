"""The choice of a pass by trying: what fits is what was tried at its full size, and nothing else."""

import pytest
import torch

from testbed.config import Train
from testbed.training.train.memory import passes
from testbed.training.train.memory.footprint import estimate
from testbed.training.train.memory.passes import Choice, choose_passes, fastest
from testbed.training.train.module_learner import ModuleLearner
from tests.helpers.single_runs import shaped

pytestmark = pytest.mark.usefixtures("old_objects_kept")
CPU = torch.device("cpu")


@pytest.fixture
def room_for(monkeypatch):
    """Have memory run out in passes of more windows than given."""

    def limit(rows):
        class Narrow(ModuleLearner):
            def _step(self):
                if self._pass_rows > rows:
                    raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
                super()._step()

        monkeypatch.setattr(passes, "make_learner", lambda specs, *rest: Narrow(specs[0], *rest))

    return limit


def ways(spec, *rows):
    return [shaped(spec, "gpt", rows=16, width=16, depth=1, micro_rows=count) for count in rows]


@pytest.mark.parametrize(("room", "fitting"), [(16, {16, 8, 4, 2}), (8, {8, 4, 2}), (7, {4, 2}), (2, {2})])
def test_a_pass_that_is_halved_does_not_fit(tiny_spec, tiny_source, room_for, room, fitting):
    room_for(room)
    found = fastest(ways(tiny_spec, 16, 8, 4, 2), tiny_source, CPU)
    assert found.engine.micro_rows in fitting


def test_a_pass_that_is_halved_is_not_even_taken_alone(tiny_spec, tiny_source, room_for):
    room_for(8)
    assert fastest(ways(tiny_spec, 16), tiny_source, CPU) is None
    assert fastest(ways(tiny_spec, 16, 8), tiny_source, CPU).engine.micro_rows == 8


def test_where_not_even_one_window_fits_nothing_is_chosen(tiny_spec, tiny_source, room_for):
    room_for(0)
    assert fastest(ways(tiny_spec, 2, 1), tiny_source, CPU) is None


def test_what_was_tried_fits_whatever_was_estimated(tiny_spec):
    (spec,) = ways(tiny_spec, 8)
    needed = estimate(spec)
    tried = Choice(spec, needed, needed.bytes // 2, measured=True)
    assert tried.fits
    assert "does not fit" not in tried.sentence()
    assert tried.sentence().endswith("as measured")
    assert not Choice(spec, needed, needed.bytes // 2).fits


def test_a_study_takes_the_pass_above_the_estimate_if_it_was_fastest(tiny_spec, tiny_source, monkeypatch):
    spec = shaped(tiny_spec, "gpt", rows=64)
    available = estimate(shaped(tiny_spec, "gpt", rows=64, micro_rows=16)).bytes + 1
    monkeypatch.setattr(passes, "fastest", lambda candidates, *rest: candidates[0])
    choice = choose_passes(spec, Train(), torch.device("cuda"), available, tiny_source)
    assert choice.spec.engine.micro_rows == 32
    assert choice.fits
    monkeypatch.setattr(passes, "fastest", lambda candidates, *rest: None)  # not one of them fitted
    choice = choose_passes(spec, Train(), torch.device("cuda"), available, tiny_source)
    assert not choice.measured


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_measures_within_the_memory_that_a_worker_will_have(tiny_spec, tiny_source):
    spec = shaped(tiny_spec, "gpt", rows=4096, width=256)
    available = estimate(spec.model_copy(update={"engine": ways(tiny_spec, 1024)[0].engine})).bytes
    choice = choose_passes(spec, Train(), torch.device("cuda"), available, tiny_source)
    assert choice.fits
    assert choice.spec.engine.micro_rows in (2048, 1024, 512, 256)
    torch.empty(available + (1 << 30), dtype=torch.uint8, device="cuda")  # the limit is lifted afterwards
