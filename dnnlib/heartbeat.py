"""Signs of life during work whose progress is not known."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

INTERVAL_SEC = 10.0


@contextlib.contextmanager
def heartbeat(describe: Callable[[], str | None], interval_sec: float = INTERVAL_SEC) -> Iterator[None]:
    """Print a line to stderr every ``interval_sec`` until the block ends, even while the block is busy.

    Args:
        describe: Returns the line, or None for none; it is called in another thread.
        interval_sec: Seconds between lines, the first included.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval_sec):
            if line := describe():
                with contextlib.suppress(OSError):  # nobody reads anymore, or the disk is full: the work goes on
                    print(line, file=sys.stderr, flush=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
