"""Being asked to stop: SIGTERM, SIGUSR1 or Ctrl-C set a flag that the loop looks at between two iterations."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

STOP_SIGNALS = tuple(name for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Names of the signals; Windows has fewer."""


class StopRequest:
    """Whether this or any other process was asked to stop."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self, signum: int, _frame: FrameType | None) -> None:
        """Signal handler; a second Ctrl-C stops at once."""
        self._is_set = True
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def agreed(self) -> bool:
        """The same answer in every process; all of them must call it."""
        if not torch.distributed.is_initialized():
            return self._is_set
        flag = torch.tensor(self._is_set, dtype=torch.uint8)  # on the CPU: no device is waited for
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag)


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Handle the signals within the context; outside the main thread, where Python allows no handlers, none are."""
    request = StopRequest()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        signums = [getattr(signal, name) for name in STOP_SIGNALS]
        before = {signum: signal.signal(signum, request.set) for signum in signums}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
