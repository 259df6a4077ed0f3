"""A click command whose errors say what its flags take."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from dnnlib.formatting import printable
from dnnlib.os_errors import path_fault

_MAX_SHOWN_CHARS = 100


class Command(click.Command):
    """A command that names what is allowed, by an example, where a value is missing or not a number.

    An empty path or boolean is refused: it would mean the current folder or 0, and usually comes from a shell variable
    that is not set. So are a path that cannot be read or looked up, and a URL where a path is wanted.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; errors of flags that take a number or a boolean are reworded."""
        last = args[-1:]  # parsing consumes the list
        self._refuse_wrong_values(ctx, args)
        try:
            rest = super().parse_args(ctx, args)
            self._refuse_unusable_paths(ctx)
            return rest
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

    def _refuse_wrong_values(self, ctx: click.Context, args: list[str]) -> None:
        """Refuse empty values and URLs as they are typed: a `Path` that is made of one later shows neither."""
        params = [param for param in self.params if isinstance(param.type, click.Path | click.types.BoolParamType)]
        options = [param for param in params if isinstance(param, click.Option) and not param.is_flag]
        flags = {name: option for option in options for name in option.opts}
        for word, following in zip(args, [*args[1:], None], strict=False):
            name, is_joined, joined = word.partition("=")
            value = joined if is_joined else following
            if name in flags and value == "":
                advice = _advice(flags[name]) or "give a path"
                way_out = "" if flags[name].required else ", or leave the flag out"
                raise click.BadParameter(f"it is empty; {advice}{way_out}", ctx, flags[name])
            if name in flags and isinstance(flags[name].type, click.Path):
                _refuse_url(value, flags[name], ctx)
        for argument in (param for param in params if isinstance(param, click.Argument)):
            if "" in args:
                raise click.BadParameter("it is empty; give a path", ctx, argument)
            for word in args:
                _refuse_url(word, argument, ctx)

    def _refuse_unusable_paths(self, ctx: click.Context) -> None:
        for param in self.params:
            for path in _paths(param, ctx):
                if fault := path_fault(path):
                    raise click.BadParameter(fault, ctx, param)


def _paths(param: click.Parameter, ctx: click.Context) -> Iterator[str]:
    """Yield the paths that a parameter was given."""
    value = ctx.params.get(param.name or "")
    if isinstance(param.type, click.Path) and value is not None:
        yield from map(str, value if isinstance(value, tuple) else [value])


def _refuse_url(value: str | None, param: click.Parameter, ctx: click.Context) -> None:
    """Refuse a URL where a path is wanted: results would go to a folder "s3:" in the current one."""
    if value is not None and re.match("[A-Za-z][A-Za-z0-9+.-]+://", value):
        text = f"{printable(value[:_MAX_SHOWN_CHARS])} is a URL; give a path on this machine"
        raise click.BadParameter(f"{text}, and copy the files yourself", ctx, param)


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
