import numpy as np
import pytest
import torch

from testbed.config import Data, Zipf
from testbed.records import DataFacts
from testbed.training.data import open_source
from testbed.training.data.synthetic import ZipfSource
from testbed.training.data.text import TextSource
from testbed.training.train.device_rows import make_rows
from testbed.training.train.feed import HostFeed, ResidentFeed, sharing

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
    ),
]
JUMPS = [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 8, 9, 30, 31, 0, 1]  # branches go back, checkpoints start anywhere


class Counting:
    """A source of our own, with a vocabulary that needs 32 bits."""

    facts = DataFacts(
        source="tests:Counting",
        tokenizer="none",
        vocab_size=100_000,
        seq_len=32,
        first_scored=0,
        train_tokens=None,
        val_tokens=32,
        val_bytes=None,
        entropy=None,
        fingerprint="",
    )

    def rows(self, data_seed, start, count):
        return (np.arange(start, start + count)[:, None] * 977 + np.arange(33) + data_seed) % 100_000

    def validation(self):
        return self.rows(99, 0, 8)


@pytest.fixture(scope="module", params=["synthetic", "short order", "text", "repeated", "own", "small vocabulary"])
def source(request, text_folder):
    if request.param == "own":
        return Counting()
    if request.param == "text":
        return open_source(Data(source=f"text:{text_folder}", seq_len=32, val_windows=8))
    if request.param == "repeated":
        return open_source(Data(source="synthetic:zipf", seq_len=32, val_windows=8, unique_tokens=4096))
    zipf = {
        "synthetic": None,
        "short order": Zipf(vocab_size=300, successors=(4,), mass=(1.0,)),
        "small vocabulary": Zipf(vocab_size=8, successors=(2, 2, 2), mass=(0.5, 0.3, 0.2)),
    }[request.param]
    return open_source(Data(source="synthetic:zipf", seq_len=32, val_windows=8, zipf=zipf))


def pack(spec, seeds):
    return tuple(spec.model_copy(update={"data_seed": seed}) for seed in seeds)


def expected(source, specs, step):
    rows = specs[0].batch_tokens // specs[0].shape.seq_len
    return np.stack([source.rows(spec.data_seed, step * rows, rows) for spec in specs]).astype(np.int64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("start, count", [(0, 1), (5, 40), (2040, 20), (2048, 2048), (6000, 5000)])
def test_rows_made_on_a_device_are_those_of_the_source(source, start, count, device):
    maker = make_rows(source, torch.device(device))
    parts = tuple(torch.from_numpy(part).to(device) for part in maker.prepare(7, start, count))
    made = maker.finish(parts, start, count).cpu().numpy()
    wide = made.view(np.uint16) if made.dtype == np.int16 else made
    assert np.array_equal(wide, source.rows(7, start, count))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seeds", [(3,), (3, 3, 3), (3, 4, 5), (5, 3, 5)])
def test_the_resident_feed_gives_the_rows_of_the_source_wherever_it_is_sought(tiny_spec, source, seeds, device):
    specs = pack(tiny_spec, seeds)
    feed = ResidentFeed(specs, source, torch.device(device), shard_bytes=4000 * len(set(seeds)))
    assert 2 <= feed._steps <= 8  # so the jumps cross shards, forwards and backwards
    for step in JUMPS:
        feed.seek(step)
        windows = feed.windows()
        assert windows.dtype == torch.long
        assert np.array_equal(windows.cpu().numpy(), expected(source, specs, step))


@pytest.mark.parametrize("seeds", [(3,), (3, 3, 3), (3, 4, 5), (5, 3, 5)])
def test_the_host_feed_gives_the_rows_of_the_source(tiny_spec, source, seeds):
    specs = pack(tiny_spec, seeds)
    feed = HostFeed(specs, source)
    for step in (0, 1, 63, 64, 200, 3):
        feed.seek(step)
        windows = feed.windows()
        assert windows.dtype == torch.long
        assert np.array_equal(windows.numpy(), expected(source, specs, step))


@pytest.mark.parametrize("kind", ["host", "resident"])
def test_a_feed_that_is_started_again_serves_the_other_runs(tiny_spec, tiny_source, kind):
    first, second = pack(tiny_spec, (3, 4, 3)), pack(tiny_spec, (8, 9, 8))
    assert sharing(first) == sharing(second) == (0, 1, 0)
    feed = HostFeed(first, tiny_source) if kind == "host" else ResidentFeed(first, tiny_source, CPU, 4000)
    for specs in (first, second, first):
        feed.restart(specs)
        for step in (0, 1, 5):
            feed.seek(step)
            assert np.array_equal(feed.windows().numpy(), expected(tiny_source, specs, step))


def test_ids_beyond_the_range_of_a_signed_short_survive_the_narrow_store(tiny_spec):
    class Wide(Counting):
        facts = Counting.facts.model_copy(update={"vocab_size": 65_536})

        def rows(self, data_seed, start, count):
            return (65_535 - super().rows(data_seed, start, count) % 65_536).astype(np.uint16)

    feed = ResidentFeed((tiny_spec,), Wide(), CPU, 4000)
    feed.seek(3)
    assert feed._shards.dtype == torch.int16
    assert feed.windows().max() > 2**15
    assert np.array_equal(feed.windows().numpy(), expected(Wide(), (tiny_spec,), 3))


def test_a_shared_order_is_read_once_and_not_copied(tiny_spec, tiny_source):
    for feed in (
        HostFeed(pack(tiny_spec, (3, 3)), tiny_source),
        ResidentFeed(pack(tiny_spec, (3, 3)), tiny_source, CPU),
    ):
        feed.seek(0)
        first, second = feed.windows()
        assert first.data_ptr() == second.data_ptr()


def test_rows_that_a_class_overrides_are_not_made_by_the_maker_that_it_inherits():
    class Backwards(ZipfSource):
        def rows(self, data_seed, start, count):
            return super().rows(data_seed, start, count)[:, ::-1]

    source = Backwards(Data(source="synthetic:zipf", seq_len=32, val_windows=8))
    (made,) = make_rows(source, CPU).prepare(7, 5, 40)
    assert np.array_equal(made.view(np.uint16), source.rows(7, 5, 40))


def test_text_lies_on_the_device_as_it_lies_on_disk(text_folder):
    source = open_source(Data(source=f"text:{text_folder}", seq_len=32, val_windows=8))
    assert isinstance(source, TextSource)
    (chosen,) = make_rows(source, CPU).prepare(0, 0, 100)
    assert chosen.shape == (100,)  # the host sends one number a window
    assert make_rows(source, CPU) is make_rows(source, CPU)  # one copy for all learners
