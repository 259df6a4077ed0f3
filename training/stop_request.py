"""Requests to stop: Ctrl-C and the signals of job managers set a flag that the loop checks between two iterations."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dnnlib.signals import JOB_SIGNALS, available, signal_handlers
from torch_utils.distributed import any_process

STOP_SIGNALS = ("SIGINT", *JOB_SIGNALS)


class StopRequest:
    """Whether this or any other process was asked to stop.

    Args:
        say: Prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._is_set = False
        self.is_at_cpu_limit = False
        """Whether a limit of CPU time has announced the end."""

    def set(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal; a second Ctrl-C raises KeyboardInterrupt."""
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.is_at_cpu_limit |= signum in available("SIGXCPU")
        if not self._is_set:
            self._is_set = True
            # From a thread: the signal may have interrupted the main thread while it was printing.
            text = "Stopping after this iteration and saving a checkpoint; Ctrl-C again stops at once, without one"
            threading.Thread(target=self._say, args=(text,)).start()

    def agreed(self) -> bool:
        """Return the same answer in every process; all of them must call it."""
        return any_process(self._is_set)


@contextmanager
def listen_for_stop(say: Callable[[str], None] = print) -> Iterator[StopRequest]:
    """Handle the signals within the context; after it, SIGXCPU is ignored if it has come."""
    request = StopRequest(say)
    with signal_handlers(dict.fromkeys(available(*STOP_SIGNALS), request.set)):
        yield request
    if request.is_at_cpu_limit:  # it comes again with each second of CPU time, and would end what has saved everything
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
