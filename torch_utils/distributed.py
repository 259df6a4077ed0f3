"""Several processes: which one this is, what they exchange, and how they are started.

Every exchange is a collective: all processes of the group must call it. Without a process group there is one process,
and each function returns what it was given.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from dnnlib.console import print_any_text
from dnnlib.errors import UserError
from dnnlib.heartbeat import heartbeat
from dnnlib.signals import JOB_SIGNALS, Handler, available, signal_handlers

T = TypeVar("T")

GRACE_SEC = 5.0
"""After one local process has failed, the others get this long to end before SIGTERM and again before SIGKILL."""


PATIENCE = timedelta(days=365)
"""Longest wait for an object; the end of its process ends the wait, unless its machine vanishes from the network."""

PEER_LOST = "another process of this run has died"
_SIGNS_OF_LOSS = ("Connection reset by peer", "Connection closed by peer", "Broken pipe", "remote process exit")
"""Signs in the errors of gloo and NCCL (the last), which have no class of their own."""

_object_group: torch.distributed.ProcessGroup | None = None
"""Carries objects, which may be waited for longer than tensors; None for the group that carries tensors."""


class ProcessError(RuntimeError):
    """One of several processes failed; the text begins with its rank."""


@dataclass(frozen=True)
class World:
    """The place of this process among all."""

    rank: int = 0
    """0 <= rank < world_size."""
    world_size: int = 1
    local_rank: int = 0
    """Number of this process on its machine: the number of its GPU."""


def world_from_env() -> World | None:
    """Return the place that torchrun, or another launcher that sets its variables, gave this process; else None.

    Raises:
        UserError: RANK and WORLD_SIZE do not fit, or MASTER_ADDR or MASTER_PORT is missing.
    """
    if "WORLD_SIZE" not in os.environ:
        return None
    try:
        rank = int(os.environ["RANK"])
        world = World(rank, int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", rank)))
    except (KeyError, ValueError) as err:
        raise UserError(f"WORLD_SIZE is set but RANK, WORLD_SIZE, LOCAL_RANK are not all numbers: {err}") from err
    if not 0 <= world.rank < world.world_size:
        raise UserError(f"RANK is {world.rank}, expected 0 to WORLD_SIZE - 1 = {world.world_size - 1}")
    if world.world_size > 1 and not ("MASTER_ADDR" in os.environ and os.environ.get("MASTER_PORT", "").isdecimal()):
        raise UserError(
            f"WORLD_SIZE is {world.world_size}, so MASTER_ADDR and MASTER_PORT must say where the processes meet: "
            "start them by torchrun, or unset WORLD_SIZE for a single process"
        )
    return world


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
        init_method: Where the processes meet: ``'env://'`` under torchrun, ``'file://...'`` from `launch`.
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
    """Describe what a process waits for if the others may be on other machines; None if `launch` starts them."""
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
    """Number of processes; 1 without a process group."""
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
    """Return ``x``, of the same shape and dtype everywhere, of every process, by rank; gradients do not flow."""
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
    """Whether an error says that another process, with which this one was exchanging something, has ended."""
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


def launch(fn: Callable[[World, str], None], num_processes: int) -> None:
    """Run ``fn(world, init_method)`` in ``num_processes`` new processes on this machine, or in this one if that is 1.

    As soon as one fails the others are stopped. `dnnlib.signals.JOB_SIGNALS` to this process reach all of them, and so
    does the first SIGINT, as SIGTERM.

    Args:
        fn: Picklable: a function at the top level of a module, or a `functools.partial` of one.
        num_processes: Number of processes.

    Raises:
        UserError: ``fn`` raised it in some process.
        ProcessError: Another failure of one of several processes.
        KeyboardInterrupt: SIGINT has ended them, as they did not handle it.
    """
    if num_processes == 1:
        fn(World(), "")
        return
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.start_processes(
            _run_process, args=(fn, num_processes, folder), nprocs=num_processes, join=False, start_method="spawn"
        )
        interrupted = threading.Event()
        try:
            with _forwarded_signals(context.pids(), interrupted):
                while not context.join(grace_period=GRACE_SEC):
                    pass
        except (ProcessRaisedException, ProcessExitedException) as err:
            user_error = Path(folder, f"error{err.error_index}")
            if user_error.exists():
                raise UserError(user_error.read_text(encoding="utf-8", errors="surrogateescape")) from None
            if interrupted.is_set() and getattr(err, "signal_name", None) == "SIGTERM":
                raise KeyboardInterrupt from None
            raise ProcessError(f"rank {err.error_index} of {num_processes} failed: {str(err).strip()}") from None


def _run_process(rank: int, fn: Callable[[World, str], None], world_size: int, folder: str) -> None:
    print_any_text()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // world_size, 1))
    try:
        fn(World(rank, world_size, rank), _init_method(Path(folder, "store")))
    except UserError as err:
        Path(folder, f"error{rank}").write_text(str(err), encoding="utf-8", errors="surrogateescape")
        raise
    finally:
        leave_world()


def _init_method(path: Path) -> str:
    """The URL of a file to meet at; torch undoes its quoting on Windows only."""
    return path.as_uri() if os.name == "nt" else unquote(path.as_uri())


def _forwarded_signals(pids: list[int], interrupted: threading.Event) -> AbstractContextManager[None]:
    """Forward signals to processes; set ``interrupted`` when SIGINT asks for an end."""

    def forward(signum: int, _frame: Any) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def interrupt(_signum: int, frame: Any) -> None:
        # A terminal sends Ctrl-C to the children itself, `kill` to this process only. SIGTERM after a SIGINT asks for
        # nothing new; a second one might hit children that are ending.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupted.set()
        forward(signal.SIGTERM, frame)

    # On Windows Ctrl-C always reaches the children, and SIGTERM would end them at once.
    handlers: dict[int, Handler] = {signal.SIGINT: signal.SIG_IGN if os.name == "nt" else interrupt}
    return signal_handlers(handlers | dict.fromkeys(available(*JOB_SIGNALS), forward))
