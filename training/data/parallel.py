"""A parallel ``map`` whose results arrive in order."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from dnnlib.errors import UserError

S = TypeVar("S")
T = TypeVar("T")

TASKS_AHEAD = 8
"""Submitted tasks per process. It bounds the number of results that wait for a slower one before them."""

MAX_WORKERS_PER_CORE = 4
"""More processes would only take memory."""


def ordered_map(function: Callable[[S], T], items: Iterable[S], num_workers: int) -> Generator[T, None, None]:
    """Yield ``function(item)`` for every item, in order, like ``map``.

    The processes come from ``concurrent.futures``, because ``multiprocessing.Pool.imap`` waits forever for the result
    of a process that was killed, for example because memory ran out. Items are taken as they are needed, so neither
    items nor results pile up. The processes end with this one, even if it is killed.

    Args:
        function: Anything that can be pickled; each process receives it once. An exception ends the iteration.
        items: Arguments; they are pickled too.
        num_workers: Number of processes, of which at most `MAX_WORKERS_PER_CORE` per core are started; 1 calls the
            function in this process.

    Raises:
        UserError: A process was killed.
    """
    if num_workers == 1:
        yield from map(function, items)
        return
    num_workers = min(num_workers, MAX_WORKERS_PER_CORE * (os.cpu_count() or 1))
    context = multiprocessing.get_context("spawn")  # a fork could inherit locks that threads of this process hold
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, _receive, (function,))
    pending: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    try:
        for item in items:
            if len(pending) == TASKS_AHEAD * num_workers:
                yield pending.popleft().result()
            with _without_interrupts():  # a process that starts inherits this until it ignores Ctrl-C
                pending.append(pool.submit(_call, item))
        while pending:
            yield pending.popleft().result()
    except concurrent.futures.process.BrokenProcessPool as err:
        raise UserError("a worker process was killed, possibly because memory ran out: try fewer --workers") from err
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C waiting; on Windows it interrupts as ever."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_function: Callable[[Any], Any]


def _receive(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the main thread waits for work that will never come


def _call(item: Any) -> Any:
    return _function(item)
