"""A snapshot's generator in formats that others read: ``python -m training.inference.export --help``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.util import UserError
from training.inference import options as options
from training.inference import programs
from training.inference.sampling import load_generator
from training.snapshots.portable import CONFIG, WEIGHTS, load_portable, save_portable

MAX_ERROR = 1e-4
"""Of an exported generator's images, whose range is about [-1, 1]."""
BATCH_SIZES = (1, 3, 8)
PSIS = (0.5, 1.0)

SAFETENSORS = "safetensors"
PROGRAMS = {"pt2": (programs.save_pt2, programs.load_pt2), "onnx": (programs.save_onnx, programs.load_onnx)}
"""Formats of programs: how one is written and read back."""

Draw = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""z, c and psi to images."""


class FormatList(click.ParamType):
    """A comma-separated list of formats."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the list and refuse unknown formats."""
        formats = value.split(",") if isinstance(value, str) else list(value)
        unknown = [name for name in formats if name not in (SAFETENSORS, *PROGRAMS)]
        if unknown:
            self.fail(f"{', '.join(unknown)}: choose from {', '.join([SAFETENSORS, *PROGRAMS])}", param, ctx)
        return formats


@click.command()
@options.network_option
@click.option(
    "--dest", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where to write."
)
@click.option(
    "--format", "formats", type=FormatList(), default=SAFETENSORS, show_default=True, help="One or more, by comma."
)
@options.trust_option
@options.errors_in_one_line()
def export(network: str, dest: Path, formats: list[str], trust_pickle: bool) -> None:
    """Write the generator of a snapshot in formats that others read.

    \b
    Formats:
      safetensors  model.safetensors and config.json, for generate.py --network=DIR
      pt2          mapping.pt2 and synthesis.pt2, for torch.export.load (which executes code: load only your own)
      onnx         mapping.onnx and synthesis.onnx, for ONNX runtimes

    \b
    Example:
      python -m training.inference.export --network=snapshot.pkl --dest=exported --format=safetensors,onnx

    Files are read back and their images compared with the network's, for batches of 1, 3 and 8 and psi 0.5 and 1.
    """  # noqa: D301 -- in a raw string click would not see its mark
    G = load_generator(network, torch.device("cpu"), trust_pickle)
    if "onnx" in formats:
        programs.check_onnx_packages()
    dest.mkdir(parents=True, exist_ok=True)
    exported = {} if formats == [SAFETENSORS] else programs.export_programs(G)
    for name in formats:
        if name == SAFETENSORS:
            save_portable(dest, G)
            report_error(G, _drawing_by(load_portable(dest)), [dest / WEIGHTS, dest / CONFIG])
        else:
            save, load = PROGRAMS[name]
            paths = [dest / f"{part}.{name}" for part in exported]
            for program, path in zip(exported.values(), paths, strict=True):
                save(program, path)
            report_error(G, _drawing_by_programs(*map(load, paths)), paths)


def report_error(G: Any, draw: Draw, paths: list[Path]) -> None:
    """Print how much the images of an exported generator differ.

    Raises:
        UserError: Too much; its files are removed.
    """
    error = largest_error(G, draw)
    files = ", ".join(map(str, paths))
    if not error <= MAX_ERROR:
        for path in paths:
            path.unlink()
        raise UserError(f"{files}: images differ by {error:.1e} from the network's, more than {MAX_ERROR}; removed")
    click.echo(f"{files}: images differ by at most {error:.1e} from the network's")


def largest_error(G: Any, draw: Draw) -> float:
    """Largest difference of pixels between ``draw`` and ``G``; NaN if there is any."""
    errors = []
    for num in BATCH_SIZES:
        z = torch.from_numpy(np.random.RandomState(num).randn(num, G.z_dim)).to(torch.float32)
        c = torch.eye(num, G.c_dim)
        for psi in PSIS:
            errors.append((draw(z, c, psi) - _drawing_by(G)(z, c, psi)).abs().max())
    return torch.stack(errors).max().item()


def _drawing_by(G: Any) -> Draw:
    return lambda z, c, psi: G(z, c, truncation_psi=psi, noise_mode="const")


def _drawing_by_programs(mapping: programs.Program, synthesis: programs.Program) -> Draw:
    def draw(z: torch.Tensor, c: torch.Tensor, psi: float) -> torch.Tensor:
        labels = {"c": c} if c.shape[1] > 0 else {}
        return synthesis(ws=mapping(z=z, truncation_psi=torch.tensor(psi), **labels))

    return draw


if __name__ == "__main__":
    export()
