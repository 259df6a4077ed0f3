"""The console of a command: its exit status, errors in one line, and paths in any language on any terminal."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator

import click

from dnnlib.errors import UserError
from dnnlib.logger import Logger
from dnnlib.os_errors import describe_os_error

EXIT_STOPPED = 75
"""Exit status of a command that was asked to stop and can be continued (EX_TEMPFAIL)."""


def print_any_text() -> None:
    """From now on print what the terminal cannot show as escapes, in this process."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def errors_in_one_line(*others: type[Exception]) -> Iterator[None]:
    """Show user errors and those of the operating system in one line; also works as a decorator.

    What the terminal cannot show, such as the name of a folder, is printed as escapes instead of ending the command.
    Nor does it end where nobody reads its output anymore, as after ``| head``.

    Args:
        others: Further errors to show so.
    """
    print_any_text()
    shown: tuple[type[Exception], ...] = (UserError, OSError, *others)
    try:
        with Logger():
            yield
    except shown as error:
        line = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise click.ClickException(line) from error
