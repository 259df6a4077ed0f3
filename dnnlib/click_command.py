"""A click command whose errors say what its flags take."""

from __future__ import annotations

import click


class Command(click.Command):
    """A command that names what is allowed, by an example, where a value is missing or is no number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; errors of flags that take a number or a boolean are reworded."""
        last = args[-1:]  # parsing consumes the list
        try:
            return super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            advice = next((_advice(each) for each in self.params if error.option_name in each.opts), None)
            if advice is None or last != [error.option_name]:
                raise
            raise click.BadOptionUsage(
                error.option_name, f"{error.option_name} needs a value: {advice}", ctx
            ) from error
        except click.BadParameter as error:
            value, is_other_type, _kind = error.message.partition(" is not a valid ")
            advice = None if error.param is None else _advice(error.param)
            if advice is None or not is_other_type:
                raise
            raise click.BadParameter(f"{value}: {advice}", ctx, error.param) from error


def _advice(param: click.Parameter) -> str | None:
    """Say what a flag takes; None if that is neither a boolean nor a number in a range."""
    kind = param.type
    if isinstance(kind, click.types.BoolParamType):
        return f"give 1 or 0, such as {param.opts[0]}=1"
    if isinstance(kind, click.IntRange | click.FloatRange):
        number = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        low = "" if kind.min is None else f" above {kind.min}" if kind.min_open else f" from {kind.min}"
        return f"give {number}{low}" + ("" if kind.max is None else f" to {kind.max}")
    return None
