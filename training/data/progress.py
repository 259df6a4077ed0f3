"""Progress of long work on images: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

from dnnlib.formatting import format_time, plural
from dnnlib.heartbeat import INTERVAL_SEC, heartbeat
from dnnlib.progress import progress_bar

T = TypeVar("T")


def show_progress(
    results: Iterable[T], desc: str, total: int, interval_sec: float = INTERVAL_SEC
) -> Generator[T, None, None]:
    """Pass on the results of work on images, showing how many there are.

    Args:
        results: Results to pass on.
        desc: What is being done.
        total: Number of results.
        interval_sec: Seconds between lines if stderr is not a terminal.
    """
    if sys.stderr.isatty():
        with progress_bar(desc, total, unit="img") as bar:
            for result in results:
                yield result
                bar.update()
        return
    start = time.monotonic()
    num_done = 0

    def describe() -> str:
        seconds = time.monotonic() - start
        left = f", about {format_time(seconds / num_done * (total - num_done))} left" if num_done else ""
        return f"{desc}: {num_done} of {plural(total, 'image')}, {num_done / seconds:.1f} images/s{left}"

    with heartbeat(describe, interval_sec):
        for result in results:
            yield result
            num_done += 1
