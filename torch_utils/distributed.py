"""A group of processes: which one this is, and what they exchange.

Every exchange is a collective: all processes of the group must call it. Without a process group there is one process,
and each function returns what it was given.
"""

from __future__ import annotations

import functools
import gc
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch

from dnnlib.heartbeat import heartbeat

T = TypeVar("T")

PATIENCE = timedelta(days=365)
"""Longest wait for an object; the end of its process ends the wait, unless its machine vanishes from the network."""

PEER_LOST = "another process of this run has died"
_SIGNS_OF_LOSS = ("Connection reset by peer", "Connection closed by peer", "Broken pipe", "remote process exit")
"""Signs in the errors of gloo and NCCL (the last), which have no class of their own."""

_object_group: torch.distributed.ProcessGroup | None = None
"""Carries objects, which may be waited for longer than tensors; None for the group that carries tensors."""


def init_world(
    rank: int,
    world_size: int,
    device: torch.device,
    init_method: str = "env://",
    timeout_sec: float = 1800,
) -> None:
    """Make ``device`` the current one and join the process group; for a single process there is nothing to join.

    Args:
        rank: This process.
        world_size: Number of processes.
        device: Tensors on CUDA devices travel through NCCL. All others, and objects, go through gloo and never make a
            device wait. Where there is no NCCL (Windows) gloo carries everything.
        init_method: Where the processes meet: ``'env://'`` under torchrun, ``'file://...'`` from `torch_utils.launch`.
        timeout_sec: Longest wait for another process in a later exchange of tensors. Objects are waited for as long as
            their process lives: it may be preparing a dataset, or downloading weights.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        return
    has_nccl = device.type == "cuda" and torch.distributed.is_nccl_available()
    with heartbeat(functools.partial(_describe_waiting, rank, world_size, init_method)):
        torch.distributed.init_process_group(
            backend="cpu:gloo,cuda:nccl" if has_nccl else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout_sec),
            device_id=device if has_nccl else None,
        )
    global _object_group
    _object_group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def _describe_waiting(rank: int, world_size: int, init_method: str) -> str | None:
    """Describe what a process waits for; None if the others are on this machine."""
    if init_method != "env://":
        return None
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return f"Process {rank} of {world_size} is waiting for the others at {place} ..."


def leave_world() -> None:
    """Leave the process group, if this process has joined one."""
    gc.collect()  # a DDP wrapper that waits in a reference cycle until after its group has gone would abort the process
    global _object_group
    _object_group = None
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def rank() -> int:
    """Rank of this process; 0 without a process group."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes; 1 without a process group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gather(value: T) -> list[T]:
    """Return the picklable ``value`` of every process, by rank.

    Tensors inside it should be on the CPU: a CUDA tensor would arrive on the device of its owner in every process.
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value, group=_object_group)
    return values


def from_rank0(value: T) -> T:
    """Return the picklable ``value`` of rank 0 in every process."""
    if world_size() == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0, group=_object_group)
    return values[0]


def gather_tensors(x: torch.Tensor) -> list[torch.Tensor]:
    """Return the ``x`` of every process, by rank, all of one shape and dtype; gradients do not flow."""
    if world_size() == 1:
        return [x]
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    torch.distributed.all_gather(parts, x.contiguous())
    return parts


def broadcast_(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite tensors with those of rank 0."""
    if world_size() > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), src=0)


def sum_(x: torch.Tensor) -> None:
    """Overwrite ``x`` with its sum over the processes."""
    if world_size() > 1:
        torch.distributed.all_reduce(x)


def any_process(flag: bool) -> bool:
    """Return whether ``flag`` is set in any process, without waiting for a GPU."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(flag, dtype=torch.uint8)  # on the CPU
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return bool(flags)


@contextmanager
def rank0_first() -> Iterator[None]:
    """Let rank 0 leave the block before the others enter it: what it downloads, they find."""
    if rank() > 0:
        torch.distributed.barrier(group=_object_group)
    try:
        yield
    finally:
        if rank() == 0 and world_size() > 1:
            torch.distributed.barrier(group=_object_group)


def is_peer_lost(error: BaseException) -> bool:
    """Return whether an error says that another process, with which this one was exchanging something, has ended."""
    return world_size() > 1 and isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS_OF_LOSS)


def parallel(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Wrap a module so that gradients are averaged over processes, if there are several and it has parameters.

    Args:
        module: Its ``requires_grad`` is False, and is again afterwards.
        device: Device of the module.
    """
    if world_size() == 1 or not any(True for _ in module.parameters()):
        return module
    # Strides of a gradient [1, N] may differ from those of its place among what is exchanged, which costs nothing.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    module.requires_grad_(True)  # DDP handles only the parameters that require gradients when it is constructed
    with warnings.catch_warnings():
        # Newer versions of torch have another name for broadcast_buffers, older ones only this.
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = torch.nn.parallel.DistributedDataParallel(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,  # no copies between gradients and what is exchanged
        )
    module.requires_grad_(False)
    return wrapped


def unwrapped(module: torch.nn.Module) -> Any:
    """Return the module that `parallel` has wrapped; one that it has left alone is returned as it is."""
    return getattr(module, "module", module)
