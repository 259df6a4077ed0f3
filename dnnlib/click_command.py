"""A click command whose errors say what its flags take."""

from __future__ import annotations

import click


class Command(click.Command):
    """A command that names what is allowed, by an example, where a value is missing or not a number.

    An empty path is refused: it would mean the current folder, and usually comes from a shell variable that is not set.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; errors of flags that take a number or a boolean are reworded."""
        last = args[-1:]  # parsing consumes the list
        self._refuse_empty_paths(ctx, args)
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

    def _refuse_empty_paths(self, ctx: click.Context, args: list[str]) -> None:
        params = [param for param in self.params if isinstance(param.type, click.Path)]
        flags = {name: param for param in params if isinstance(param, click.Option) for name in param.opts}
        for word, following in zip(args, [*args[1:], None], strict=False):
            name, is_joined, value = word.partition("=")
            if name in flags and (value if is_joined else following) == "":
                way_out = "" if flags[name].required else ", or leave the flag out"
                raise click.BadParameter(f"it is empty; give a path{way_out}", ctx, flags[name])
        for argument in (param for param in params if isinstance(param, click.Argument) and "" in args):
            raise click.BadParameter("it is empty; give a path", ctx, argument)


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
