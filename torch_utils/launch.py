"""Start of several processes: by a launcher such as torchrun, or by this program on one machine."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from dnnlib.console import print_any_text
from dnnlib.errors import UserError
from dnnlib.logger import Logger
from dnnlib.signals import JOB_SIGNALS, Handler, available, signal_handlers
from torch_utils.distributed import leave_world

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
        with Logger():  # it goes on where nobody reads what it prints
            fn(World(rank, world_size, rank), _init_method(Path(folder, "store")))
    except UserError as err:
        Path(folder, f"error{rank}").write_text(str(err), encoding="utf-8", errors="surrogateescape")
        raise
    finally:
        leave_world()


def _init_method(path: Path) -> str:
    """Return the URL of a file to meet at; torch undoes its quoting on Windows only."""
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
