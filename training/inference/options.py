"""Command-line options shared by the tools for trained generators."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib import console
from dnnlib.click_types import MAX_DIGITS, MAX_SEED, FiniteFloat, NumberList
from dnnlib.commands import how_to_run
from metrics.weights import trust_torchscript
from torch_utils.launch import ProcessError
from torch_utils.out_of_memory import out_of_memory_means
from training.inference.loading import class_number
from training.inference.sampling import class_label
from training.networks import NOISE_MODES
from training.run.lookup import SHIPPED, find_network, require_network

MAX_SHOWN_SEEDS = 5


class Network(click.ParamType):
    """What `find_network` finds: a run folder or ``latest`` becomes the path of its newest networks."""

    name = "PKL|RUN|latest|DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path or URL."""
        with console.errors_in_one_line():
            require_network(str(value), "--network")
            found = find_network(str(value))
        if found != value:
            click.echo(f"Network: {found}", err=True)
        return found


def _number_of_class(ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return a class number as it is; look up a class name in the dataset of ``--network``."""
    if value is None or re.fullmatch(rf"-?[0-9]{{1,{MAX_DIGITS}}}", value):
        return None if value is None else int(value)
    with console.errors_in_one_line():
        return class_number(ctx.params["network"], value, ctx.params.get("trust_pickle", False))


def _existing_network(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Refuse what names no network, before anything is loaded."""
    with console.errors_in_one_line():
        require_network(value, "--network")
    return value


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
    callback=_existing_network,
    is_eager=True,  # --class may need it
    help=NETWORK_HELP,
)
outdir_option = click.option(
    "--outdir",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Output folder.",
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
device_option = click.option(
    "--device",
    "device_name",
    type=click.Choice(["auto", "cuda", "cpu", "mps"]),
    default="auto",
    show_default=True,
    help="Device; auto selects CUDA if available, else the CPU.",
)
trust_option = click.option(
    "--trust-pickle",
    is_flag=True,
    is_eager=True,  # --class may need it, too
    help="Allow the snapshot to execute code. Only for files whose author you trust.",
)
detectors_option = click.option(
    "--detectors",
    metavar="DIR",
    type=click.Path(),
    help="Folder to search first for the weights of feature networks.",
)
trust_detectors_option = click.option(
    "--trust-detectors",
    is_flag=True,
    callback=lambda _ctx, _param, is_trusted: trust_torchscript() if is_trusted else None,
    expose_value=False,
    help="Allow TorchScript feature networks of unknown origin to execute code. Only for files whose author you trust.",
)


Option = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Adds an option to a command."""


def batch_option(default: int = 1, help: str = "Batch size.") -> Option:
    """Return ``--batch``, whose default depends on the command."""
    return click.option(
        "--batch", type=click.IntRange(min=1), metavar="INT", default=default, show_default=True, help=help
    )


def seed_option(default: int = 0, name: str = "--seed", help: str = "Random seed.") -> Option:
    """Return an option for the seed of everything random in a command."""
    return click.option(
        name, type=click.IntRange(0, MAX_SEED), metavar="INT", default=default, show_default=True, help=help
    )


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"Warning: {text}", err=True)


def once(flag: str, seeds: Sequence[int]) -> list[int]:
    """Return seeds without repetitions, which would draw an image over itself; warn of them."""
    repeated = [seed for seed, num in Counter(seeds).items() if num > 1]
    if repeated:
        shown = ", ".join(map(str, repeated[:MAX_SHOWN_SEEDS])) + (", ..." if len(repeated) > MAX_SHOWN_SEEDS else "")
        warn(f"{flag} names {shown} more than once; each seed is drawn once")
    return list(dict.fromkeys(seeds))


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
    """Show user errors, lack of memory and the end of another process in one line; also works as a decorator."""
    with (
        console.errors_in_one_line(ProcessError),
        out_of_memory_means("use a smaller --batch or --grid, if the command has them, or another --device"),
    ):
        yield
