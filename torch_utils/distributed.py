"""Several processes: who is who, and starting them."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from dnnlib.util import UserError

GRACE_SEC = 5.0
"""After one local process has failed, the others get this long to end before SIGTERM and again before SIGKILL."""


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
        UserError: RANK and WORLD_SIZE do not fit.
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
        timeout_sec: Longest wait for another process in any later exchange.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        return
    has_nccl = device.type == "cuda" and torch.distributed.is_nccl_available()
    torch.distributed.init_process_group(
        backend="cpu:gloo,cuda:nccl" if has_nccl else "gloo",
        init_method=init_method,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout_sec),
        device_id=device if has_nccl else None,
    )


def leave_world() -> None:
    """Leave the process group, if this process has joined one."""
    gc.collect()  # a DDP wrapper that waits in a reference cycle until after its group has gone would abort the process
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(fn: Callable[[World, str], None], num_processes: int) -> None:
    """Run ``fn(world, init_method)`` in ``num_processes`` new processes on this machine, or in this one if that is 1.

    As soon as one fails the others are stopped. SIGTERM and SIGUSR1 to this process reach all of them.

    Args:
        fn: Picklable: a function at the top level of a module, or a `functools.partial` of one.
        num_processes: Number of processes.

    Raises:
        UserError: ``fn`` raised it in some process.
        ProcessError: Another failure of one of several processes.
    """
    if num_processes == 1:
        fn(World(), "")
        return
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.start_processes(
            _run_process, args=(fn, num_processes, folder), nprocs=num_processes, join=False, start_method="spawn"
        )
        try:
            with _forwarded_signals(context.pids()):
                while not context.join(grace_period=GRACE_SEC):
                    pass
        except (ProcessRaisedException, ProcessExitedException) as err:
            user_error = Path(folder, f"error{err.error_index}")
            if user_error.exists():
                raise UserError(user_error.read_text(encoding="utf-8")) from None
            raise ProcessError(f"rank {err.error_index} of {num_processes} failed: {str(err).strip()}") from None


def _run_process(rank: int, fn: Callable[[World, str], None], world_size: int, folder: str) -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // world_size, 1))
    try:
        fn(World(rank, world_size, rank), _init_method(Path(folder, "store")))
    except UserError as err:
        Path(folder, f"error{rank}").write_text(str(err), encoding="utf-8")
        raise
    finally:
        leave_world()


def _init_method(path: Path) -> str:
    """The URL of a file to meet at; torch undoes its quoting on Windows only."""
    return path.as_uri() if os.name == "nt" else unquote(path.as_uri())


@contextmanager
def _forwarded_signals(pids: list[int]) -> Iterator[None]:
    def forward(signum: int, _frame: Any) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        # A terminal sends Ctrl-C to the children itself; this process only has to wait for them.
        handlers = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: forward}
        if hasattr(signal, "SIGUSR1"):  # not on Windows
            handlers[signal.SIGUSR1] = forward
    previous = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
