"""The command ``mscond``: every script of a checkout as a subcommand with the same flags."""

from __future__ import annotations

import copy
import importlib.metadata
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import click

from .modules import CODE

if TYPE_CHECKING:
    from dnnlib.commands import Subcommand


def subcommands() -> dict[str, Subcommand]:
    """Return the subcommands by name. From now on the names of our modules come first: this process is ours."""
    if str(CODE) not in sys.path[:1]:
        sys.path.insert(0, str(CODE))
    from dnnlib.commands import SUBCOMMANDS

    return SUBCOMMANDS


def renamed(command: click.Command, names: Mapping[str, str]) -> click.Command:
    """Return a copy of a command, and of those below it, whose help calls scripts, or anything else, by other names."""
    command = copy.copy(command)
    command.params = [copy.copy(param) for param in command.params]
    described: list[click.Command | click.Option] = [command]
    described += [param for param in command.params if isinstance(param, click.Option)]
    for each in described:
        for old, new in names.items():
            each.help = (each.help or "").replace(old, new)
    if isinstance(command, click.Group):
        command.commands = {name: renamed(below, names) for name, below in command.commands.items()}
    return command


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the version and exit, if asked to; a copy of the package's folder does not know it."""
    if not value or ctx.resilient_parsing:
        return
    try:
        click.echo(f"mscond, version {importlib.metadata.version('mscond')}")
    except importlib.metadata.PackageNotFoundError:
        click.echo("mscond, of unknown version: it was copied, not installed")
    ctx.exit()


class Subcommands(click.Group):
    """Imports the module of a subcommand only when it is called: ``mscond --help`` need not wait for PyTorch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return list(subcommands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand; its help names it as it is called here."""
        known = subcommands()
        if cmd_name not in known:
            return None
        from dnnlib.commands import how_to_install

        subcommand = known[cmd_name]
        command: click.Command = getattr(import_module(subcommand.module), subcommand.function)
        names = {f"python {each.script}": f"mscond {name}" for name, each in known.items()}
        names |= {each.script: f"mscond {name}" for name, each in known.items() if each.script.endswith(".py")}
        command = renamed(command, {**names, "pip install '.[metrics]'": how_to_install("metrics")})
        command.epilog = f"\b\nPages of the documentation: {CODE / 'docs'}"  # \b: a line that is not broken
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error about the name of a script says what it is called here."""
        script = args[0].removesuffix(".py").replace("-", "_")
        for name, subcommand in subcommands().items():
            if script == subcommand.module and args[0] not in subcommands() and not ctx.resilient_parsing:
                ctx.fail(f"no command {args[0]!r}: it is called mscond {name}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names and what they do."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.summary) for name, each in subcommands().items()])


@click.command(cls=Subcommands)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Train GANs on images, and use them.

    Each command takes the flags of the script of a checkout: mscond train is python train.py.
    """
