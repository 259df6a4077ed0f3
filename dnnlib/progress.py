"""Progress of long work, drawn by tqdm: a bar on a terminal, a line at intervals anywhere else."""

from __future__ import annotations

import sys

from tqdm import tqdm

LINE_INTERVAL_SEC = 30.0
"""Time between two lines where there is no terminal."""


def progress_bar(desc: str, total: int | None, unit: str = "it", disable: bool = False) -> tqdm:
    """Start showing the progress of ``total`` items, or of an unknown number of them if None.

    On a terminal, tqdm draws its bar on stderr and removes it at the end. Otherwise stdout gets one line at the start,
    one at the first update after every `LINE_INTERVAL_SEC` and one when the bar is closed.

    Args:
        desc: What is being done.
        total: Number of items.
        unit: Name of one item, as in "12 img/s"; ``"B"`` abbreviates numbers, as in "12.3M".
        disable: Show nothing.
    """
    is_bytes = unit == "B"
    if sys.stderr.isatty():
        return tqdm(desc=desc, total=total, unit=unit, unit_scale=is_bytes, leave=False, disable=disable)
    return tqdm(
        desc=desc,
        total=total,
        unit_scale=is_bytes,
        disable=disable,
        file=_Lines(),
        position=0,  # a bar that was never closed would move the others down by escape sequences
        mininterval=LINE_INTERVAL_SEC,
        miniters=1,  # look at the clock at every update: the pace of the items may change
        bar_format="{desc}: {n_fmt} of {total_fmt}, {elapsed}" + ("" if total is None else ", {remaining} left"),
    )


class _Lines:
    """A file for tqdm, which redraws its display with carriage returns, that prints each new state as a line."""

    def __init__(self) -> None:
        self._last_line = ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last_line:
            self._last_line = line
            print(line, flush=True)

    def flush(self) -> None:
        """Do nothing: every line is flushed."""
