"""Progress of long computations on a terminal, in a log, or in a display of the caller's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from dnnlib.util import format_time

PLAIN_INTERVAL_SEC = 60.0
"""Time between two lines of progress where there is no terminal."""


class ProgressMonitor:
    """Progress of one stage: a bar with the time left on a terminal, else a line a minute and one at the end.

    Args:
        tag: What the items are, e.g. ``"real images"``; None shows nothing.
        num_items: How many there will be.
        flush_interval: Items between two calls of ``progress_fn``.
        verbose: Show anything at all.
        progress_fn: Called with (position, ``pfn_total``) for a display of the caller's.
        pfn_lo: Position at the start of the stage.
        pfn_hi: Position at its end.
        pfn_total: Position when everything is done.
    """

    def __init__(
        self,
        tag: str | None = None,
        num_items: int | None = None,
        flush_interval: int = 1000,
        verbose: bool = False,
        progress_fn: Callable[[int, int], None] | None = None,
        pfn_lo: float = 0,
        pfn_hi: float = 1000,
        pfn_total: int = 1000,
    ) -> None:
        self.tag = tag
        self.num_items = num_items
        self.flush_interval = flush_interval
        self.verbose = verbose
        self.progress_fn = progress_fn
        self.pfn_lo = pfn_lo
        self.pfn_hi = pfn_hi
        self.pfn_total = pfn_total
        shown = verbose and tag is not None
        self._bar = tqdm(total=num_items, desc=tag, leave=False) if shown and sys.stderr.isatty() else None
        self._prints = shown and self._bar is None
        self._start = self._last_print = time.monotonic()
        self._last_flush = 0

    def update(self, cur_items: int) -> None:
        """Report that ``cur_items`` items are done in all."""
        is_done = self.num_items is not None and cur_items >= self.num_items
        if self._bar is not None:
            self._bar.update(cur_items - self._bar.n)
            if is_done:
                self._bar.close()
        now = time.monotonic()
        if self._prints and (is_done or now - self._last_print >= PLAIN_INTERVAL_SEC):
            self._last_print = now
            self._print(cur_items, now - self._start)
        if self.progress_fn is not None and (is_done or cur_items - self._last_flush >= self.flush_interval):
            self._last_flush = cur_items
            share = min(cur_items / self.num_items, 1) if self.num_items else 0
            self.progress_fn(round(self.pfn_lo + (self.pfn_hi - self.pfn_lo) * share), self.pfn_total)

    def _print(self, cur_items: int, elapsed_sec: float) -> None:
        line = f"{self.tag}: {cur_items} of {self.num_items or '?'}, {format_time(elapsed_sec)}"
        if self.num_items and 0 < cur_items < self.num_items:
            left_sec = elapsed_sec / cur_items * (self.num_items - cur_items)
            line += f", {format_time(left_sec)} left"
        print(line, flush=True)

    def sub(
        self,
        tag: str | None = None,
        num_items: int | None = None,
        flush_interval: int = 1000,
        rel_lo: float = 0,
        rel_hi: float = 1,
    ) -> ProgressMonitor:
        """Start a stage that covers the share ``rel_lo`` to ``rel_hi`` of this one."""
        span = self.pfn_hi - self.pfn_lo
        return ProgressMonitor(
            tag=tag,
            num_items=num_items,
            flush_interval=flush_interval,
            verbose=self.verbose,
            progress_fn=self.progress_fn,
            pfn_lo=self.pfn_lo + span * rel_lo,
            pfn_hi=self.pfn_lo + span * rel_hi,
            pfn_total=self.pfn_total,
        )
