"""Flags of the command that is running."""

from __future__ import annotations

import click


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
