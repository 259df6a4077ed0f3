"""A map over indices by several processes whose results come in order, whatever their number."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
import signal
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from dnnlib.util import UserError

T = TypeVar("T")

TASKS_AHEAD = 8
"""Unfinished tasks per process; results that wait for a slower one before them stay this few."""


def ordered_map(function: Callable[[int], T], count: int, num_workers: int) -> Generator[T, None, None]:
    """Yield ``function(0)``, ``function(1)``, ... of ``count`` calls.

    Args:
        function: Anything that pickles; each process receives it once. An exception ends the iteration.
        count: Number of calls.
        num_workers: Processes; 1 calls in this one.

    Raises:
        UserError: A process was killed.
    """
    if num_workers == 1:
        yield from map(function, range(count))
        return
    context = multiprocessing.get_context("spawn")  # a fork could inherit locks that threads of this process hold
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, _receive, (function,))
    pending: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    try:
        for index in range(count):
            if len(pending) == TASKS_AHEAD * num_workers:
                yield pending.popleft().result()
            pending.append(pool.submit(_call, index))
        while pending:
            yield pending.popleft().result()
    except concurrent.futures.process.BrokenProcessPool as err:
        raise UserError("a worker process was killed, maybe for want of memory: try fewer --workers") from err
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable[[int], Any]


def _receive(function: Callable[[int], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others


def _call(index: int) -> Any:
    return _function(index)
