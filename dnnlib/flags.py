"""Flags of the command that is running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from dnnlib.errors import UserError


def refuse(why: str, *names: str) -> None:
    """Refuse parameters of the current command that were given on the command line.

    Args:
        why: Follows the flag in the message.
        names: The parameters, by the names that the command takes them by.

    Raises:
        click.UsageError: One was given.
    """
    context = click.get_current_context()
    given = {name for name in names if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    for parameter in context.command.params:
        if parameter.name in given:
            raise click.UsageError(f"{parameter.opts[0]} {why}")


@contextmanager
def about(flag: str) -> Iterator[None]:
    """Begin user errors with the flag whose value they are about, unless they begin with a flag already."""
    try:
        yield
    except UserError as error:
        if str(error).startswith("--"):
            raise
        raise UserError(f"{flag}: {error}") from error
