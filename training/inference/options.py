"""Command-line options shared by the tools for trained generators."""

from __future__ import annotations

import contextlib
import math
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib import console
from dnnlib.commands import how_to_run
from dnnlib.util import UserError
from metrics.detectors import trust_torchscript
from torch_utils.distributed import ProcessError
from torch_utils.out_of_memory import out_of_memory_means
from training.inference.sampling import class_label, class_number
from training.networks import NOISE_MODES
from training.run.latest import SHIPPED, find_network

MAX_SEED = 2**32 - 1
MAX_NUMBERS = 1_000_000
"""Length limit of a list of numbers: a range such as 0-4294967295 would exhaust the memory."""
DEFAULT_SWEEP, MAX_SWEEP = 7, 1000
"""Images per seed of a range of psi."""
_MAX_DIGITS = 100
"""Python refuses to parse numbers with thousands of digits."""


class NumberList(click.ParamType):
    """Comma-separated whole numbers and ranges: ``0-35`` or ``1,2,3`` or ``0,5-9``.

    Args:
        largest: Largest allowed number.
    """

    name = "LIST"

    def __init__(self, largest: int) -> None:
        self.largest = largest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the numbers in the given order."""
        if not isinstance(value, str):
            return list(value)
        numbers: list[int] = []
        for part in value.split(","):
            first, dash, last = (text.strip() for text in part.partition("-"))
            if not (first.isdecimal() and (last.isdecimal() or not dash)):
                self.fail(f"{value[:100]!a}: give numbers such as 0-35 or 1,2,3", param, ctx)
            too_long = max(len(first), len(last)) > _MAX_DIGITS
            low, high = (0, -1) if too_long else (int(first), int(last or first))
            if not low <= high <= self.largest:
                self.fail(f"{part.strip()[:100]}: give 0 to {self.largest}, the smaller one first", param, ctx)
            if len(numbers) + high - low >= MAX_NUMBERS:
                self.fail(f"give at most {MAX_NUMBERS} numbers", param, ctx)
            numbers += range(low, high + 1)
        return numbers


class NameList(click.ParamType):
    """Comma-separated names out of a fixed set; blanks around them are ignored, and repetitions dropped.

    Args:
        known: Returns the allowed names.
        is_known: Whether a name is allowed. Default: it is one of ``known``.
    """

    name = "LIST"

    def __init__(self, known: Callable[[], list[str]], is_known: Callable[[str], bool] | None = None) -> None:
        self.known = known
        self.is_known = is_known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the list and refuse unknown names."""
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
        known = self.known()
        is_known = self.is_known or known.__contains__
        unknown = [ascii(name[:100]) for name in names if not is_known(name)]
        if unknown:
            self.fail(f"{', '.join(unknown)}: choose from {', '.join(known)}", param, ctx)
        return list(dict.fromkeys(names))


class FiniteFloat(click.ParamType):
    """A floating-point number that is neither infinite nor NaN."""

    name = "FLOAT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value}: give a finite number", param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """A range of floating-point numbers, as click has it, without NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(FiniteFloat().convert(value, param, ctx), param, ctx)
        return number


@dataclass(frozen=True)
class Sweep:
    """Truncation psi from ``low`` to ``high``, in ``num`` steps of a grid; None if no number was given."""

    low: float
    high: float
    num: int | None


class Truncation(FiniteFloat):
    """One psi, or a `Sweep`: ``LOW:HIGH`` or ``LOW:HIGH:NUM``."""

    name = "FLOAT|LOW:HIGH[:NUM]"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | Sweep:
        """Return the number or the range."""
        if not isinstance(value, str) or ":" not in value:
            return super().convert(value, param, ctx)
        low, high, *rest = value.split(":")
        if len(rest) > 1 or not all(_is_sweep_length(num) for num in rest):
            self.fail(f"{value[:100]!a}: give LOW:HIGH or LOW:HIGH:NUM, NUM from 2 to {MAX_SWEEP}", param, ctx)
        return Sweep(
            super().convert(low, param, ctx), super().convert(high, param, ctx), int(rest[0]) if rest else None
        )


def _is_sweep_length(text: str) -> bool:
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_SWEEP))
    return is_short and 2 <= int(text) <= MAX_SWEEP


class Network(click.ParamType):
    """What `find_network` finds: a run folder or ``latest`` becomes the path of its newest networks."""

    name = "PKL|RUN|latest|DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path or URL."""
        try:
            found = find_network(str(value))
        except (UserError, OSError) as error:
            raise click.ClickException(str(error)) from error
        if found != value:
            click.echo(f"Network: {found}", err=True)
        return found


def _number_of_class(ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return a class number as it is, and that of a class name out of the dataset of ``--network``."""
    if value is None or re.fullmatch(rf"-?[0-9]{{1,{_MAX_DIGITS}}}", value):
        return None if value is None else int(value)
    try:
        return class_number(ctx.params["network"], value, ctx.params.get("trust_pickle", False))
    except (UserError, OSError) as error:
        raise click.ClickException(str(error)) from error


SEEDS = NumberList(MAX_SEED)
NETWORK = Network()
NETWORK_HELP = (
    "Snapshot (path or https URL), run folder, 'latest' for the latest run in runs/, exported folder, or "
    f"{', '.join(SHIPPED)}, which comes with this program."
)

network_option = click.option(
    "--network",
    required=True,
    metavar=NETWORK.name,
    is_eager=True,  # --class may need it
    help=NETWORK_HELP,
)
outdir_option = click.option(
    "--outdir", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Output folder."
)
class_option = click.option(
    "--class",
    "class_idx",
    callback=_number_of_class,
    metavar="INT|NAME",
    help="Class number, or name if the training set has names; required by conditional networks.",
)
trunc_option = click.option(
    "--trunc",
    type=FiniteFloat(),
    metavar="FLOAT",
    default=1,
    show_default=True,
    help="Truncation psi; lower values trade variety for fidelity.",
)
noise_mode_option = click.option(
    "--noise-mode",
    type=click.Choice(NOISE_MODES),
    default="const",
    show_default=True,
    help="Noise mode: fixed noise maps, random ones per image, or none.",
)
batch_option = click.option(
    "--batch", type=click.IntRange(min=1), metavar="INT", default=1, show_default=True, help="Batch size."
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu", "mps"]),
    default="auto",
    show_default=True,
    help="Device; auto selects CUDA if available, else the CPU.",
)
trust_option = click.option(
    "--trust-pickle",
    is_flag=True,
    is_eager=True,  # as of --network
    help="Allow the snapshot to execute code. Only for files whose author you trust.",
)
detectors_option = click.option(
    "--detectors", metavar="DIR", help="Folder to search first for the weights of feature networks."
)
trust_detectors_option = click.option(
    "--trust-detectors",
    is_flag=True,
    callback=lambda _ctx, _param, is_trusted: trust_torchscript() if is_trusted else None,
    expose_value=False,
    help="Allow TorchScript feature networks of unknown origin to execute code. Only for files whose author you trust.",
)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"Warning: {text}", err=True)


def suggest(script: str, network: object, outdir: object, *arguments: str) -> None:
    """Print a command that the user may want to run next."""
    flags = [f"--network={network}", f"--outdir={outdir}", *arguments]
    click.echo(f"Next: {how_to_run(script)} {shlex.join(flags)}")


def choose_label(G: Any, class_idx: int | None, device: torch.device) -> torch.Tensor:
    """Return the label ``[1, c_dim]`` for ``--class``; warn if the network is unconditional."""
    if class_idx is not None and G.c_dim == 0:
        warn("--class has no effect because the network is unconditional")
        class_idx = None
    return class_label(G, class_idx, device)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Show a lack of memory and the end of another process in one line too; also works as a decorator."""
    with (
        console.errors_in_one_line(ProcessError),
        out_of_memory_means("use a smaller --batch or --grid, if the command has them, or another --device"),
    ):
        yield
