"""Pictures of what directions in W change: a row per latent, the strength increases to the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnnlib.progress import progress_bar
from training.data.grid import write_png
from training.inference.directions import move
from training.inference.latents import Latents
from training.inference.stored import StoredVectors
from training.inference.video_frames import draw_frames


def write_direction_images(
    outdir: Path,
    G: Any,
    latents: Latents,
    directions: StoredVectors,
    layers: Sequence[int],
    strengths: Sequence[float],
    psi: float,
    batch: int,
    noise_mode: str,
) -> None:
    """Write ``directionNN.png`` for each direction.

    Args:
        outdir: Output folder.
        G: The generator.
        latents: The latents that are moved.
        directions: The directions.
        layers: Layers that they change.
        strengths: Columns: how far to move, in standard deviations of w along the direction.
        psi: Truncation of the latents.
        batch: Images drawn at a time.
        noise_mode: Noise mode, as for `synthesize`.
    """
    rows = [latents.ws([number], psi) for number in latents.numbers]
    noise_seeds = [number for number in latents.numbers for _ in strengths]
    steps = directions.vectors * directions.deviations[:, None]
    with progress_bar("directions", len(steps)) as progress:
        for i, step in enumerate(steps):
            cells = [move(ws, strength * step, layers) for ws in rows for strength in strengths]
            [picture] = draw_frames(G, cells, len(strengths), batch, noise_mode, noise_seeds)
            write_png(picture, outdir / f"direction{i:02d}.png")
            progress.update()
