"""The batches of the runs of a pack: windows of any step, a pure function of data seeds and step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from testbed.records import RunSpec
from testbed.training.data import BlockReader, TokenSource
from testbed.training.data.on_device import Parts
from testbed.training.train.device_rows import ids_of, make_rows, token_type

_SHARD_BYTES = 1 << 25  # of tokens prepared at once: 16 million, a tenth of a second of one core


class Feed(Protocol):
    """Windows of K runs. `seek` is the host's part of a step; `windows` the device's, with the same operations at every step."""

    def seek(self, step: int) -> None:
        """Prepare for optimiser step `step` (from 0)."""
        ...

    def windows(self) -> Tensor:
        """The windows [K, B, T + 1] (int64) of the last `seek`; may be an expanded view where runs share data."""
        ...

    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Serve other runs, which share data seeds among themselves as the first ones do (see `sharing`)."""
        ...


def make_feed(specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device) -> Feed:
    """The feed for this device."""
    return ResidentFeed(specs, source, device) if device.type == "cuda" else HostFeed(specs, source)


def sharing(specs: Sequence[RunSpec]) -> tuple[int, ...]:
    """For each run the index of its data seed among the distinct ones."""
    seeds = [spec.data_seed for spec in specs]
    distinct = list(dict.fromkeys(seeds))
    return tuple(distinct.index(seed) for seed in seeds)


def _readers(specs: Sequence[RunSpec]) -> tuple[list[int], int]:
    """The distinct data seeds, and the rows of one run's step."""
    return list(dict.fromkeys(spec.data_seed for spec in specs)), specs[0].batch_tokens // specs[0].shape.seq_len


class HostFeed:
    """Blocks of steps read into host memory: the feed of a CPU."""

    def __init__(self, specs: tuple[RunSpec, ...], source: TokenSource) -> None:
        self._source = source
        self.restart(specs)

    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Serve other runs."""
        seeds, rows = _readers(specs)
        self._readers = [BlockReader(self._source, seed, rows) for seed in seeds]
        self._runs, self._sharing = len(specs), list(sharing(specs))
        self._windows = torch.empty(0, dtype=torch.long)

    def seek(self, step: int) -> None:
        """Read the step's windows."""
        read = [torch.as_tensor(reader(step)) for reader in self._readers]
        self._windows = torch.stack(read).long() if len(read) > 1 else read[0].long()[None]

    def windows(self) -> Tensor:
        """The windows [K, B, T + 1] (int64); runs that share all their data get views of one batch."""
        if len(self._readers) == 1:
            return self._windows.expand(self._runs, -1, -1)
        return self._windows if len(self._readers) == self._runs else self._windows[self._sharing]


class ResidentFeed:
    """Two shards of many steps each in static device memory, one in use while the next is made.

    The step's windows are selected by an index on the device, so a captured graph selects the right ones
    at every replay. A separate thread prepares the host's part of a shard; its upload and the device's
    part run on a separate stream.
    """

    def __init__(
        self, specs: tuple[RunSpec, ...], source: TokenSource, device: torch.device, shard_bytes: int = _SHARD_BYTES
    ) -> None:
        seeds, self._rows = _readers(specs)
        length, self._vocab_size = specs[0].shape.seq_len + 1, source.facts.vocab_size
        kind = token_type(self._vocab_size)
        self._device, self._maker = device, make_rows(source, device)
        self._steps = max(1, shard_bytes // (len(seeds) * self._rows * length * kind.itemsize))  # of one shard
        self._shards = torch.empty((2 * self._steps, len(seeds), self._rows, length), dtype=kind, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._place = torch.tensor(sharing(specs), device=device)
        self._runs = len(specs)
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self._stream is not None:
            self._shards.record_stream(self._stream)  # keeps its memory while an upload is under way
        self.restart(specs)

    def restart(self, specs: tuple[RunSpec, ...]) -> None:
        """Serve other runs; the shards of the earlier ones are discarded."""
        self._seeds, _ = _readers(specs)
        self._held: list[int | None] = [None, None]
        self._uploaded: list[torch.cuda.Event | None] = [None, None]
        self._current: int | None = None
        self._coming: tuple[int, Future[list[tuple[Tensor, ...]]]] | None = None

    def seek(self, step: int) -> None:
        """Point at the step's windows, and prepare the next shard meanwhile."""
        shard, offset = divmod(step, self._steps)
        half = shard % 2
        if self._held[half] != shard:
            self._upload(shard)
        if self._current != shard:
            self._current, event = shard, self._uploaded[half]
            if event is not None:
                torch.cuda.current_stream().wait_event(event)
        self._at.fill_(half * self._steps + offset)
        if self._held[1 - half] != shard + 1:
            self._make_ready(shard + 1)

    def windows(self) -> Tensor:
        """The windows [K, B, T + 1] (int64) at the device's index."""
        windows = ids_of(self._shards.index_select(0, self._at)[0], self._vocab_size)  # [seeds, B, T + 1]
        if len(self._seeds) == 1:
            return windows.expand(self._runs, -1, -1)
        return windows if len(self._seeds) == self._runs else windows.index_select(0, self._place)

    def _make_ready(self, shard: int) -> None:
        """Prepare the shard in the thread; upload it at a later step, once it is ready."""
        if self._coming is None:
            self._coming = shard, self._ahead.submit(self._prepare, shard)
        elif self._coming[1].done():
            if self._coming[0] == shard:
                self._upload(shard)
            self._coming = None

    def _prepare(self, shard: int) -> list[tuple[Tensor, ...]]:
        """The host's part of a shard, for each seed."""
        count = self._steps * self._rows
        return [self._pinned(self._maker.prepare(seed, shard * count, count)) for seed in self._seeds]

    def _pinned(self, parts: Parts) -> tuple[Tensor, ...]:
        tensors = (torch.from_numpy(part) for part in parts)
        return tuple(t.pin_memory() if self._stream is not None else t for t in tensors)

    def _upload(self, shard: int) -> None:
        """Fill the shard's half of the memory, after all steps queued so far (one of them is the last to read it)."""
        ready = self._coming[1].result() if self._coming and self._coming[0] == shard else self._prepare(shard)
        half, count = shard % 2, self._steps * self._rows
        memory = self._shards[half * self._steps : (half + 1) * self._steps]
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())
        with self._beside():
            for place, parts in enumerate(ready):
                there = tuple(part.to(self._device, non_blocking=True) for part in parts)
                rows = self._maker.finish(there, shard * count, count)
                memory[:, place].copy_(rows.reshape(self._steps, self._rows, -1))
        self._held[half] = shard
        self._uploaded[half] = self._stream.record_event() if self._stream is not None else None

    def _beside(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream) if self._stream is not None else nullcontext()
