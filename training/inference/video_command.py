"""The videos and pictures that ``generate.py`` writes for ``--video`` and ranges of ``--trunc``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from dnnlib.progress import progress_bar
from training.data.grid import write_png
from training.data.video import played_fps, why_webp, write_video
from training.inference import run_video, video_frames
from training.inference.grid_size import Grid, check_grid, fit_grid
from training.inference.latents import Latents
from training.inference.loading import load_generator
from training.inference.truncation import DEFAULT_SWEEP, Sweep
from training.inference.video_options import DEFAULT_FRAMES, DEFAULT_HELD_FRAMES, VideoSettings


@dataclass(frozen=True)
class Drawing:
    """Where to write, and how to draw.

    Attributes:
        outdir: Output folder.
        settings: Settings of the video; None for a picture of a range of psi.
        grid: The cells; None for what suits.
        batch: Images drawn at a time.
        noise_mode: Noise mode, as for `synthesize`.
        device: Device of the networks.
    """

    outdir: Path
    settings: VideoSettings | None
    grid: Grid | None
    batch: int
    noise_mode: str
    device: torch.device

    def draw(
        self, G: Any, walks: Sequence[Iterable[torch.Tensor]], size: tuple[int, int], seeds: Sequence[int]
    ) -> Iterator[np.ndarray]:
        """Return the frames of walks in a grid of ``size`` (columns, rows), each with the random noise of a seed."""
        columns, rows = size
        return video_frames.draw_frames(G, walks, columns, self.batch, self.noise_mode, seeds, rows)

    def save(self, frames: Iterable[np.ndarray], total: int, name: str) -> None:
        """Write a video and report it."""
        assert self.settings is not None
        self.outdir.mkdir(parents=True, exist_ok=True)
        path = self.outdir / f"{name}.{self.settings.suffix}"
        with progress_bar("frames", total, unit="frame") as progress:
            written = write_video(video_frames.counted(frames, progress), path, self.settings.fps)
        click.echo(f"Wrote {written}: {plural(total, 'frame')}, {total / played_fps(path, self.settings.fps):.1f} s")
        if written != path:
            click.echo(why_webp())


def write_walks_or_sweep(drawing: Drawing, G: Any, latents: Latents, trunc: float | Sweep) -> None:
    """Write a video of walks, or the latents at increasing psi as a video or a picture.

    Raises:
        UserError: The latents do not fit the grid, or it is too large.
    """
    if isinstance(trunc, Sweep):
        (write_sweep if drawing.settings is None else write_sweep_video)(drawing, G, latents, trunc)
    else:
        write_walks(drawing, G, latents, trunc)


def write_walks(drawing: Drawing, G: Any, latents: Latents, psi: float) -> None:
    """Write ``walk.mp4``: walks through the latents in their order, one in each cell of the grid."""
    settings = drawing.settings
    assert settings is not None
    if drawing.grid == "auto":
        raise UserError("--video needs the number of walks: give --grid=COLUMNSxROWS, or leave it out for one walk")
    columns, rows = drawing.grid or (1, 1)
    check_grid(columns, rows, G.img_resolution)
    parts = video_frames.split_walks(latents.numbers, columns * rows)
    num_per_key = settings.frames or DEFAULT_FRAMES
    walks = [
        video_frames.walk(keys_of(latents, part, psi), num_per_key, settings.is_loop, settings.easing) for part in parts
    ]
    total = video_frames.num_frames(len(parts[0]), num_per_key, settings.is_loop)
    drawing.save(drawing.draw(G, walks, (columns, rows), [part[0] for part in parts]), total, "walk")


def keys_of(latents: Latents, numbers: Sequence[int], psi: float) -> torch.Tensor:
    """Return ws ``[K, L, w_dim]``, mapped one by one as single images are, since batches may change the last bit."""
    return torch.cat([latents.ws([number], psi) for number in numbers])


def write_sweep(drawing: Drawing, G: Any, latents: Latents, trunc: Sweep) -> None:
    """Write ``truncation.png``: a row per seed, psi increases to the right."""
    if drawing.grid is not None:
        raise UserError("--grid: a picture of a range of psi has a row per seed and a column per psi; leave it out")
    psis = video_frames.sweep(trunc.low, trunc.high, trunc.num or DEFAULT_SWEEP, is_loop=False)
    check_grid(len(psis), len(latents.numbers), G.img_resolution)
    cells = [(number, psi) for number in latents.numbers for psi in psis]
    ws = [[latents.ws([number], psi)[0]] for number, psi in cells]
    with progress_bar("images", None):
        [picture] = drawing.draw(G, ws, (len(psis), len(latents.numbers)), [number for number, _psi in cells])
    drawing.outdir.mkdir(parents=True, exist_ok=True)
    write_png(picture, drawing.outdir / "truncation.png")
    what = f"psi from {trunc.low:g} to {trunc.high:g} in {len(psis)} steps, a row per seed"
    click.echo(f"Wrote {drawing.outdir / 'truncation.png'}: {what}")


def write_sweep_video(drawing: Drawing, G: Any, latents: Latents, trunc: Sweep) -> None:
    """Write ``truncation.mp4``: psi increases, and falls again in a loop."""
    settings = drawing.settings
    assert settings is not None
    if trunc.num is not None:
        raise UserError(
            f"--trunc={trunc.low:g}:{trunc.high:g}:{trunc.num}: a video takes the number of steps from --frames; give "
            f"--trunc={trunc.low:g}:{trunc.high:g}"
        )
    size = fit_grid(drawing.grid or "auto", len(latents.numbers), G.img_resolution)
    psis = video_frames.sweep(trunc.low, trunc.high, max(settings.frames or DEFAULT_FRAMES, 2), settings.is_loop)
    walks = [_over_psi(latents, number, psis) for number in latents.numbers]
    drawing.save(drawing.draw(G, walks, size, latents.numbers), len(psis), "truncation")


def _over_psi(latents: Latents, number: int, psis: Sequence[float]) -> Iterator[torch.Tensor]:
    for psi in psis:
        yield latents.ws([number], psi)[0]


def write_training_video(
    drawing: Drawing, run_dir: Path, choose: Callable[[Any], Latents] | None, psi: float | Sweep, trusted: bool
) -> None:
    """Write ``training.mp4``: what a run drew, or what its snapshots draw, each with its kimg.

    Args:
        drawing: Where to write, and how to draw.
        run_dir: Folder of the run.
        choose: Gives the latents for the generator of a snapshot; None shows the grids of images that the run drew.
        psi: Truncation.
        trusted: Allow the snapshots to execute code.

    Raises:
        UserError: The folder holds no such files.
    """
    settings = drawing.settings
    assert settings is not None
    if isinstance(psi, Sweep):
        raise UserError("--trunc: a video over training takes one psi, not a range")
    if choose is None:
        stages = run_video.sample_grids(run_dir)
        frames = run_video.sample_frames(stages)
    else:
        stages = run_video.snapshots(run_dir)
        frames = _snapshot_frames(drawing, stages, choose, psi, trusted)
    num_each = settings.frames or DEFAULT_HELD_FRAMES
    repeated = (frame for each in frames for frame in [each] * num_each)
    drawing.save(repeated, num_each * len(stages), "training")


def _snapshot_frames(
    drawing: Drawing, stages: Sequence[tuple[float, Path]], choose: Callable[[Any], Latents], psi: float, trusted: bool
) -> Iterator[np.ndarray]:
    for kimg, path in stages:
        G = load_generator(str(path), drawing.device, trusted)
        latents = choose(G)
        size = fit_grid(drawing.grid or "auto", len(latents.numbers), G.img_resolution)
        ws = [[w] for w in keys_of(latents, latents.numbers, psi)]
        [frame] = drawing.draw(G, ws, size, latents.numbers)
        yield video_frames.captioned(frame, run_video.kimg_text(kimg))
