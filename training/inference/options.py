"""Command-line options that the tools for a trained generator share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.util import UserError
from training.inference.sampling import class_label
from training.networks import NOISE_MODES

MAX_SEED = 2**32 - 1


class NumberList(click.ParamType):
    """Whole numbers and ranges of them, by comma: ``0-35`` or ``1,2,3`` or ``0,5-9``.

    Args:
        largest: The largest number that is allowed.
    """

    name = "LIST"

    def __init__(self, largest: int) -> None:
        self.largest = largest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the numbers in the order in which they are given."""
        if not isinstance(value, str):
            return list(value)
        numbers: list[int] = []
        for part in value.split(","):
            first, dash, last = part.partition("-")
            if not (first.strip().isdecimal() and (last.strip().isdecimal() or not dash)):
                self.fail(f"{value!r}: give numbers as in 0-35 or 1,2,3", param, ctx)
            low, high = int(first), int(last or first)
            if not low <= high <= self.largest:
                self.fail(f"{part.strip()}: give 0 to {self.largest}, the smaller one first", param, ctx)
            numbers += range(low, high + 1)
        return numbers


SEEDS = NumberList(MAX_SEED)

network_option = click.option(
    "--network", required=True, metavar="PKL|DIR", help="Snapshot (path or https URL), or an exported folder."
)
outdir_option = click.option(
    "--outdir", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where to write."
)
class_option = click.option("--class", "class_idx", type=int, metavar="INT", help="Class, for conditional networks.")
trunc_option = click.option(
    "--trunc",
    type=float,
    metavar="FLOAT",
    default=1,
    show_default=True,
    help="Truncation psi: towards 0 less variety and fewer flaws.",
)
noise_mode_option = click.option(
    "--noise-mode",
    type=click.Choice(NOISE_MODES),
    default="const",
    show_default=True,
    help="Noise maps: drawn per image, the network's, or none.",
)
batch_option = click.option(
    "--batch", type=click.IntRange(min=1), metavar="INT", default=1, show_default=True, help="Images drawn at once."
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto is cuda where there is any, else cpu.",
)
trust_option = click.option(
    "--trust-pickle", is_flag=True, help="Let the snapshot execute code: only if you trust its author."
)


def warn(text: str) -> None:
    """Tell the user of something that has no effect."""
    click.echo(f"Warning: {text}", err=True)


def choose_label(G: Any, class_idx: int | None, device: torch.device) -> torch.Tensor:
    """Make the label ``[1, c_dim]`` that ``--class`` asks for; warn where it has no effect."""
    if class_idx is not None and G.c_dim == 0:
        warn("--class has no effect, the network is unconditional")
        class_idx = None
    return class_label(G, class_idx, device)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Show the user's mistakes without a traceback; also usable as a decorator."""
    try:
        yield
    except (UserError, OSError) as error:
        raise click.ClickException(str(error)) from error
