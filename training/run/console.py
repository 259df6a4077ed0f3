"""What a run prints: lines, a progress bar, and heartbeats while nothing else is printed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tqdm import tqdm

from dnnlib.formatting import format_time

SILENCE_SEC = 10.0
"""Longest time without output on a terminal, and anywhere at the beginning of a run."""
LATER_SILENCE_SEC = 60.0
"""Longest time without output to a file, once the run has lasted this long."""


class Console:
    """Lines, a progress bar and heartbeats, on the main process only.

    Args:
        is_main: Whether this process prints at all.
        progress: 'plain' for lines, 'auto' for a bar as well if there is a terminal, 'none' for nothing.
    """

    def __init__(self, is_main: bool, progress: str) -> None:
        self._is_verbose = is_main and progress != "none"
        self._terminal = sys.__stderr__  # not the copy that goes into the log file
        is_terminal = self._terminal is not None and self._terminal.isatty()
        self._has_bar = is_main and progress == "auto" and is_terminal
        self._max_silence_sec = SILENCE_SEC if is_terminal else LATER_SILENCE_SEC
        self._bar: tqdm | None = None
        self._activity = ""
        self._begin_sec = self._activity_sec = self._last_sec = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        self._last_sec = time.monotonic()
        if self._is_verbose:
            with suppress(OSError), tqdm.external_write_mode(file=self._terminal):  # the terminal may have been closed
                print(line, flush=True)

    @contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """Name what the process is doing within the context, for the heartbeat."""
        before = self._activity, self._activity_sec
        self._activity, self._activity_sec = activity, time.monotonic()
        try:
            yield
        finally:
            self._activity, self._activity_sec = before

    @contextmanager
    def running(self, total_nimg: float | None, cur_nimg: int) -> Iterator[None]:
        """Show a bar that `advance` moves, and a heartbeat, while the context lasts.

        Args:
            total_nimg: Length of the run in images; None if it is limited by time.
            cur_nimg: Images seen so far.
        """
        is_over = threading.Event()
        thread = threading.Thread(target=self._print_heartbeats, args=(is_over,), daemon=True)
        with tqdm(
            total=total_nimg,
            initial=cur_nimg,
            unit="img",
            file=self._terminal,
            leave=False,
            disable=not self._has_bar,
        ) as self._bar:
            if self._is_verbose:
                thread.start()
            try:
                yield
            finally:
                is_over.set()
                if self._is_verbose:
                    thread.join()

    def advance(self, nimg: int) -> None:
        """Count images as done."""
        if self._bar is not None:
            self._bar.update(nimg)

    def _print_heartbeats(self, is_over: threading.Event) -> None:
        while not is_over.wait(1.0):
            now = time.monotonic()
            limit_sec = SILENCE_SEC if now - self._begin_sec < LATER_SILENCE_SEC else self._max_silence_sec
            if now - self._last_sec >= limit_sec - 1.0:
                self._last_sec = now
                line = f"  {self._activity} ({format_time(now - self._activity_sec)})"
                with suppress(OSError, ValueError), tqdm.external_write_mode(file=self._terminal):
                    if sys.__stdout__ is not None:  # print would take sys.stdout, which goes into the log file
                        print(line, file=sys.__stdout__, flush=True)
