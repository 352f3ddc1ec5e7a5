"""The processes that train one run together: how they agree, and how batch and network are divided among them.

A process without a process group (`join`) is alone, and nothing here costs anything; accelerate is imported
only for several processes, since that takes longer than the first steps of a small run.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from testbed.records import RunSpec


def join(rank: int, count: int, meeting: Path, device: torch.device) -> None:
    """Become process `rank` (from 0) of `count` on this machine; `meeting` is a file that does not exist yet."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in places.items()}
    if device.type == "cuda":
        torch.cuda.set_device(rank)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting.absolute().as_uri(), rank=rank, world_size=count)


def leads() -> bool:
    """Whether this process is the one that writes files (rank 0)."""
    return not dist.is_initialized() or dist.get_rank() == 0


def agreed(*flags: bool) -> tuple[bool, ...]:
    """The flags of rank 0, in every process; all processes must call it."""
    if not dist.is_initialized():
        return flags
    answers = torch.tensor(flags, dtype=torch.uint8)
    dist.broadcast(answers, src=0)
    return tuple(map(bool, answers.tolist()))


def wait() -> None:
    """Wait until every process has called this."""
    agreed(True)
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))


class Ranks:
    """The part of one process in a run; the whole run where it has one process."""

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        engine = spec.engine
        self.count, self._sharded, self._positions = engine.processes, engine.sharded, spec.shape.seq_len + 1
        self._rank = dist.get_rank() if self.count > 1 else 0
        self._device = device
        if self.count > 1:
            from accelerate import Accelerator, DistributedDataParallelKwargs

            assert dist.get_world_size() == self.count
            options = DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
            self._accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[options])

    def spread(self, scored: nn.Module, layers: Sequence[nn.Module]) -> nn.Module:
        """The module that trains with all processes: their gradients are averaged.

        Sharded: FSDP (arXiv:2304.11277) by torch.distributed.fsdp.fully_shard, layer by layer. accelerate wraps
        the same function, but only for accelerators, which cannot be tested on a CPU. Copies: accelerate's DDP.
        """
        if self.count == 1:
            return scored
        if not self._sharded:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # broadcast_buffers has a new name
                module: nn.Module = self._accelerator.prepare(scored)
            # DDP reorders its buckets after the first pass, which in a resumed run would be at another step
            module(torch.zeros((1, self._positions), dtype=torch.long, device=self._device)).backward()
            module.zero_grad()
            return module
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self._device.type, (self.count,))
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(scored, mesh=mesh)
        return scored

    def share(self, windows: Tensor) -> Tensor:
        """This process's part of the windows [n, T + 1]; n is a multiple of the number of processes."""
        assert len(windows) % self.count == 0
        return windows.chunk(self.count)[self._rank]

    def passing(self, module: nn.Module, last: bool) -> AbstractContextManager[object]:
        """A context for one pass of a step; copies exchange their gradients in the last pass only.

        Shards exchange them in every pass, since a sharded process does not hold whole gradients.
        """
        if self.count == 1 or self._sharded or last:
            return nullcontext()
        context: AbstractContextManager[object] = self._accelerator.no_sync(module)
        return context

    def forget(self, module: nn.Module) -> None:
        """After an evaluation: release the outermost weights, which FSDP keeps gathered for a backward pass."""
        if self._sharded:
            module.reshard()  # type: ignore[operator]

    def all(self, tensor: Tensor) -> Tensor:
        """The tensors [n, ...] of all processes, concatenated [count * n, ...]."""
        if self.count == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    def own(self, tensor: Tensor) -> Tensor:
        """This process's part of a result of `all`."""
        return tensor.chunk(self.count)[self._rank]


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor; of a sharded one a copy in host memory in rank 0, and an empty tensor elsewhere."""
    if not _is_sharded(tensor):
        return tensor
    content: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return content.cpu() if leads() else content.new_empty(0)


@torch.no_grad()
def fill(tensor: Tensor, content: Tensor) -> None:
    """The reverse of `whole`, in place: every process takes its shard."""
    if _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
        content = distribute_tensor(content.to(tensor.device), mesh, placements, src_data_rank=None)
    tensor.copy_(content)


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")
