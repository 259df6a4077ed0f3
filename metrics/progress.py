"""Progress of a metric on a terminal, in a log, or in a display of the caller's."""

from __future__ import annotations

from collections.abc import Callable

from dnnlib.progress import progress_bar


class ProgressMonitor:
    """Progress of one stage of a computation, shown by `dnnlib.progress.progress_bar`.

    Args:
        tag: What the items are, e.g. ``"real images"``; None shows nothing.
        num_items: Number of items, if known.
        flush_interval: Number of items between two calls of ``progress_fn``.
        verbose: Show the progress.
        progress_fn: Called with (position, ``pfn_total``) for a display of the caller's.
        pfn_lo: Position at the start of the stage.
        pfn_hi: Position at the end of the stage.
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
        self._bar = progress_bar(tag, num_items) if verbose and tag is not None else None
        self._last_flush = 0

    def update(self, cur_items: int) -> None:
        """Report that ``cur_items`` items have been processed so far."""
        is_done = self.num_items is not None and cur_items >= self.num_items
        if self._bar is not None:
            self._bar.update(cur_items - self._bar.n)
            if is_done:
                self._bar.close()
        if self.progress_fn is not None and (is_done or cur_items - self._last_flush >= self.flush_interval):
            self._last_flush = cur_items
            fraction = min(cur_items / self.num_items, 1) if self.num_items else 0
            self.progress_fn(round(self.pfn_lo + (self.pfn_hi - self.pfn_lo) * fraction), self.pfn_total)

    def sub(
        self,
        tag: str | None = None,
        num_items: int | None = None,
        flush_interval: int = 1000,
        rel_lo: float = 0,
        rel_hi: float = 1,
    ) -> ProgressMonitor:
        """Start a stage that covers the fractions ``rel_lo`` to ``rel_hi`` of this one."""
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
