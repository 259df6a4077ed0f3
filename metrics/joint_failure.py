"""Failures of one of several processes: the others stop too, rather than wait for it until the group's timeout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

from dnnlib.errors import UserError
from torch_utils import distributed

T = TypeVar("T")

_END = object()


class OtherProcessError(RuntimeError):
    """Another process failed; that process raises the reason."""


@contextmanager
def fails_together(num_gpus: int) -> Iterator[None]:
    """Make the block fail in all processes if it fails in one; it costs one exchange of a byte between CPUs.

    Every process must enter the block, and no exchange inside it may be skipped by a process that fails.

    Args:
        num_gpus: Number of processes; 1 exchanges nothing.

    Raises:
        OtherProcessError: The block succeeded here and failed elsewhere.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as err:
        failure = err
    failed_anywhere = num_gpus > 1 and distributed.any_process(failure is not None)
    if failure is not None:
        raise failure
    if failed_anywhere:
        raise OtherProcessError("another process failed")


@contextmanager
def entered_together(context: AbstractContextManager[T], num_gpus: int) -> Iterator[T]:
    """Enter a context in all processes, or in none if that fails in one.

    Args:
        context: The context of this process.
        num_gpus: Number of processes.
    """
    with ExitStack() as stack:
        with fails_together(num_gpus):
            entered = stack.enter_context(context)
        yield entered


def in_step(items: Iterable[T], num_gpus: int) -> Iterator[T]:
    """Yield items that every process computes in the same number of steps; a failed step ends all of them."""
    iterator = iter(items)
    while True:
        with fails_together(num_gpus):
            item = next(iterator, _END)
        if item is _END:
            return
        yield item  # type: ignore[misc]  # not the sentinel


def result_of_rank0(compute: Callable[[], T], num_gpus: int) -> T:
    """Call ``compute`` in every process and return what it returned on rank 0.

    Raises:
        UserError: It was raised in some process.
        RuntimeError: Another failure in another process; the text names its rank.
    """
    if num_gpus == 1:
        return compute()
    result: T | None = None
    failure: Exception | None = None
    try:
        result = compute()
    except OtherProcessError:
        pass  # that process knows the reason
    except Exception as err:
        failure = err
    # The type and the text of an error: not every exception survives pickling.
    reason = None if failure is None else (isinstance(failure, UserError), f"{failure}")
    outcomes = distributed.gather((result, reason))
    if failure is not None:
        raise failure
    for rank, (_result, their_reason) in enumerate(outcomes):
        if their_reason is not None:
            is_user_error, text = their_reason
            raise UserError(text) if is_user_error else RuntimeError(f"process {rank}: {text}")
    return outcomes[0][0]  # type: ignore[return-value]  # rank 0 did not fail
