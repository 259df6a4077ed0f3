"""Progress of long work, drawn by tqdm: a bar on a terminal, a line at intervals anywhere else."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from typing import Any

from tqdm import tqdm

LINE_INTERVAL_SEC = 10.0
"""Time between two lines where there is no terminal."""


def progress_bar(desc: str, total: int | None, unit: str = "it", disable: bool = False) -> tqdm:
    """Start showing the progress of ``total`` items, or of an unknown number of them if None.

    On a terminal, tqdm draws its bar on stderr and removes it at the end. Otherwise stdout gets one line at the start,
    one every `LINE_INTERVAL_SEC`, also while an item takes longer, and one for what is left when the bar is closed.

    Args:
        desc: What is being done.
        total: Number of items.
        unit: Name of one item, as in "12 img/s"; ``"B"`` abbreviates numbers, as in "12.3M".
        disable: Show nothing.
    """
    is_bytes = unit == "B"
    if sys.stderr.isatty():
        return _Bar(desc=desc, total=total, unit=unit, unit_scale=is_bytes, leave=False, disable=disable)
    return _LineBar(
        desc=desc,
        total=total,
        unit_scale=is_bytes,
        disable=disable,
        file=_Lines(),
        position=0,  # a bar that was never closed would move the others down by escape sequences
        mininterval=LINE_INTERVAL_SEC,
        miniters=1,  # look at the clock at every update: the pace of the items may change
        smoothing=0,  # the mean pace: tqdm takes no others from lines that it has not printed itself
    )


class _Bar(tqdm):
    """A bar on a terminal."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """The parts of the bar: only its name while nothing of an unknown total has been counted."""
        is_empty = self.total is None and not self.n
        return super().format_dict | ({"bar_format": "{desc} ..."} if is_empty else {})


class _LineBar(tqdm):
    """A bar that is redrawn at intervals even if nothing updates it."""

    def __init__(self, file: _Lines, **kwargs: Any) -> None:
        self._is_closed = threading.Event()
        super().__init__(file=file, **kwargs)
        if not self.disable:
            arguments = (weakref.ref(self), self._is_closed, file)  # the thread must not keep a forgotten bar alive
            threading.Thread(target=_redraw, args=arguments, daemon=True).start()

    @property
    def format_dict(self) -> dict[str, Any]:
        """The parts of a line: without a known total, only what has been counted."""
        counted = "{n_fmt} of {total_fmt}, " if self.total is not None else "{n_fmt}, " if self.n else ""
        left = ", {remaining} left" if self.total is not None else ""
        return super().format_dict | {"bar_format": "{desc}: " + counted + "{elapsed}" + left}

    def redraw(self) -> None:
        """Draw the state now; the next update that does so counts its interval from here."""
        self.refresh()
        self.last_print_n, self.last_print_t = self.n, self._time()

    def close(self) -> None:
        """Draw the last state, unless the last line has counted everything."""
        self._is_closed.set()
        if not self.disable:
            self.leave = self.n != self.last_print_n
        super().close()


def _redraw(reference: weakref.ref[_LineBar], is_closed: threading.Event, lines: _Lines) -> None:
    while not is_closed.wait(max(LINE_INTERVAL_SEC - lines.silence_sec(), 0.1)):
        bar = reference()
        if bar is None:
            return
        if lines.silence_sec() >= LINE_INTERVAL_SEC:
            bar.redraw()
        del bar


class _Lines:
    """A file for tqdm, which redraws its display with carriage returns, that prints each new state as a line."""

    def __init__(self) -> None:
        self._last_line = ""
        self._last_sec = time.monotonic()

    def silence_sec(self) -> float:
        """Return the seconds since the last line."""
        return time.monotonic() - self._last_sec

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last_line:
            self._last_line = line
            self._last_sec = time.monotonic()
            with contextlib.suppress(OSError):  # nobody reads anymore, or the disk is full: the work goes on
                print(line, flush=True)

    def flush(self) -> None:
        """Do nothing: every line is flushed."""
