"""Signal handlers that are installed within a context."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int
"""A function, or ``signal.SIG_IGN`` or ``signal.SIG_DFL``."""

JOB_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP")
"""Names of the signals by which job managers, limits of CPU time and closed terminals announce the end of a process.

Not every system has them all."""


def available(*names: str) -> list[signal.Signals]:
    """Return those of the named signals that this operating system has; Windows lacks most."""
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


@contextmanager
def signal_handlers(handlers: Mapping[int, Handler]) -> Iterator[None]:
    """Install signal handlers within the context, and restore the previous ones after it.

    A SIGHUP that is ignored, as under nohup, stays ignored. Outside the main thread, where Python allows no handlers,
    none are installed.

    Args:
        handlers: Handler of each signal.
    """
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ignored = [signum for signum in available("SIGHUP") if signal.getsignal(signum) is signal.SIG_IGN]
        previous = {
            signum: signal.signal(signum, handler) for signum, handler in handlers.items() if signum not in ignored
        }
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
