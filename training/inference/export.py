"""Export the generator of a snapshot to other formats: ``python -m training.inference.export --help``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.click_command import Command
from dnnlib.click_types import NameList
from dnnlib.errors import UserError
from dnnlib.outputs import keep_inputs
from training.inference import options, programs
from training.inference.loading import load_generator
from training.inference.sampling import can_truncate, check_truncation
from training.run.lookup import find_network
from training.snapshots.portable import CONFIG, WEIGHTS, check_replaceable, load_portable, save_portable

MAX_ERROR = 1e-4
"""Largest allowed error of the images of an exported generator, whose range is about [-1, 1]."""
BATCH_SIZES = (1, 3, 8)
PSIS = (0.5, 1.0)

SAFETENSORS = "safetensors"
PROGRAMS = {"pt2": (programs.save_pt2, programs.load_pt2), "onnx": (programs.save_onnx, programs.load_onnx)}
"""Program formats: their functions for saving and loading."""

Draw = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Maps z, c and psi to images."""


@click.command(cls=Command)
@options.network_option
@click.option(
    "--dest",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Output folder.",
)
@click.option(
    "--format",
    "formats",
    type=NameList(lambda: [SAFETENSORS, *PROGRAMS]),
    default=SAFETENSORS,
    show_default=True,
    help="Comma-separated list of formats.",
)
@options.trust_option
@options.errors_in_one_line()
def export(network: str, dest: Path, formats: list[str], trust_pickle: bool) -> None:
    """Export the generator of a snapshot to other formats.

    \b
    Formats:
      safetensors  model.safetensors and config.json, for generate.py --network=DIR
      pt2          mapping.pt2 and synthesis.pt2, for torch.export.load (executes code: load only files you trust)
      onnx         mapping.onnx and synthesis.onnx, for ONNX runtimes

    \b
    Example:
      python -m training.inference.export --network=snapshot.pkl --dest=exported --format=safetensors,onnx

    The files are read back, and their images compared with those of the network, for batches of 1, 3 and 8 images and
    truncation psi 0.5 and 1, or 1 alone if the network cannot truncate; then program mapping has no truncation_psi.
    """  # noqa: D301 -- in a raw string click would not see its mark
    asked = dest.suffix.removeprefix(".")
    if asked in (SAFETENSORS, *PROGRAMS) and asked not in formats:
        raise UserError(f"--dest={dest} is the name of a folder; for this format add --format={asked}")
    G = load_generator(network, torch.device("cpu"), trust_pickle)
    check_truncation(G, min(psis(G)))
    if SAFETENSORS in formats:
        keep_inputs([dest], network=find_network(network))
        check_replaceable(dest)
    if "onnx" in formats:
        programs.check_onnx_packages()
    dest.mkdir(parents=True, exist_ok=True)
    exported = {} if formats == [SAFETENSORS] else programs.export_programs(G)
    for name in formats:
        if name == SAFETENSORS:
            save_portable(dest, G)
            report_error(G, _draw_with(load_portable(dest)), [dest / WEIGHTS, dest / CONFIG])
        else:
            save, load = PROGRAMS[name]
            paths = [dest / f"{part}.{name}" for part in exported]
            for program, path in zip(exported.values(), paths, strict=True):
                save(program, path)
            report_error(G, _draw_with_programs(G, *map(load, paths)), paths)
    if SAFETENSORS in formats:
        options.suggest("generate.py", dest, "out", "--seeds=0-35", *["--class=0"] * (G.c_dim > 0))


def psis(G: Any) -> tuple[float, ...]:
    """Return the truncations to compare."""
    return PSIS if can_truncate(G) else (1.0,)


def report_error(G: Any, draw: Draw, paths: list[Path]) -> None:
    """Print the files of an exported generator and the largest error of its images.

    Raises:
        UserError: The error is too large; the files are removed.
    """
    error = largest_error(G, draw)
    files = ", ".join(map(str, paths))
    if not error <= MAX_ERROR:
        for path in paths:
            path.unlink()
        raise UserError(
            f"removed {files}: their images differ from those of the network by {error:.1e}, at most {MAX_ERROR} is "
            "allowed"
        )
    click.echo(f"Wrote {files}: their images differ from those of the network by at most {error:.1e}")


def largest_error(G: Any, draw: Draw) -> float:
    """Return the largest difference of a pixel between ``draw`` and ``G``, or NaN if a pixel of either is NaN."""
    errors = []
    for num in BATCH_SIZES:
        z = torch.from_numpy(np.random.RandomState(num).randn(num, G.z_dim)).to(torch.float32)
        c = torch.eye(num, G.c_dim)
        for psi in psis(G):
            errors.append((draw(z, c, psi) - _draw_with(G)(z, c, psi)).abs().max())
    return torch.stack(errors).max().item()


def _draw_with(G: Any) -> Draw:
    return lambda z, c, psi: G(z, c, truncation_psi=psi, noise_mode="const")


def _draw_with_programs(G: Any, mapping: programs.Program, synthesis: programs.Program) -> Draw:
    def draw(z: torch.Tensor, c: torch.Tensor, psi: float) -> torch.Tensor:
        labels = {"c": c} if c.shape[1] > 0 else {}
        truncation = {"truncation_psi": torch.tensor(psi)} if can_truncate(G) else {}
        return synthesis(ws=mapping(z=z, **truncation, **labels))

    return draw


if __name__ == "__main__":
    export()
