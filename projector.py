"""Find the w whose image resembles a given one most: ``python projector.py --help``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.atomic import write_atomic
from dnnlib.progress import progress_bar
from dnnlib.util import UserError, format_time
from metrics.detectors import EFFLITE1, VGG16
from metrics.metric_utils import get_feature_detector
from torch_utils.device import choose_device
from training.data.codec import BadImageError, load_image, open_image
from training.data.grid import write_png
from training.data.preparation import Preparation
from training.data.video import write_video
from training.inference import options as options
from training.inference.projection import Step, project
from training.inference.sampling import load_generator, synthesize

MAX_FRAMES = 200
"""Maximum number of frames of the video; of more steps, evenly spaced ones are shown."""


@click.command()
@options.network_option
@options.outdir_option
@click.option(
    "--target",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Target image.",
)
@click.option(
    "--num-steps",
    metavar="INT",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of optimization steps.",
)
@click.option(
    "--seed",
    metavar="INT",
    type=click.IntRange(0, options.MAX_SEED),
    default=303,
    show_default=True,
    help="Random seed.",
)
@click.option(
    "--save-video",
    metavar="BOOL",
    type=bool,
    default=True,
    show_default=True,
    help="Save a video of the optimization.",
)
@options.class_option
@click.option(
    "--detector",
    default=VGG16,
    show_default=True,
    metavar=f"{VGG16}|{EFFLITE1}|FILE",
    help="Feature network that compares images.",
)
@options.detectors_option
@options.trust_detectors_option
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def run_projection(
    network: str,
    outdir: Path,
    target: Path,
    num_steps: int,
    seed: int,
    save_video: bool,
    class_idx: int | None,
    detector: str,
    detectors: str | None,
    device: str,
    trust_pickle: bool,
) -> None:
    """Project an image into the latent space W of a network.

    \b
    Example:
      python projector.py --outdir=out --network=snapshot.pkl --target=photo.png
      python generate.py --outdir=out --network=snapshot.pkl --projected-w=out/projected_w.npz

    The target is cropped to its center square; it should be framed like the training images. Writes target.png,
    proj.png, projected_w.npz (w, [1, num_ws, w_dim]) and proj.mp4, or proj.webp without package imageio-ffmpeg.
    """  # noqa: D301 -- in a raw string click would not see its mark
    where = choose_device(device)
    G = load_generator(network, where, trust_pickle)
    label = options.choose_label(G, class_idx, where)
    pixels = read_target(target, G.img_resolution, G.img_channels)
    features = load_features(detector, where, detectors)
    outdir.mkdir(parents=True, exist_ok=True)
    write_png(pixels, outdir / "target.png")

    target_img = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(where, torch.float32)
    ws = optimize(project(G, target_img, features, label, num_steps, seed), num_steps)
    projected_w = ws[-1:, None].repeat(1, G.num_ws, 1).cpu().numpy()
    write_atomic(outdir / "projected_w.npz", lambda file: np.savez(file, w=projected_w))
    write_png(draw(G, ws[-1]), outdir / "proj.png")
    names = ["target.png", "proj.png", "projected_w.npz"]
    if save_video:
        names.append(write_video(video_frames(G, ws, pixels), outdir / "proj.mp4").name)
    click.echo(f"Wrote {', '.join(names)} to {outdir}")
    if names[-1].endswith(".webp"):
        click.echo("The video is a WebP because an mp4 needs: pip install '.[video]'")
    options.suggest("generate.py", network, outdir, f"--projected-w={outdir / 'projected_w.npz'}")


def read_target(path: Path, resolution_px: int, num_channels: int) -> np.ndarray:
    """Return the center square of an image file at the resolution of the network, uint8 ``[R, R, C]``.

    Raises:
        UserError: The file is not an image, or the network is neither grayscale nor RGB.
    """
    if num_channels not in (1, 3):
        raise UserError(f"projection supports networks with 1 or 3 color channels, this one has {num_channels}")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file")
    prepare = Preparation(
        mode="grey" if num_channels == 1 else "rgb",
        transform="center-crop",
        width_px=resolution_px,
        height_px=resolution_px,
        resize_filter="lanczos",
    )
    try:
        with open(path, "rb") as file:
            image = prepare(load_image(open_image(file)))
    except BadImageError as error:
        raise UserError(f"{path} {error}") from error
    return np.array(image).reshape(resolution_px, resolution_px, num_channels)


def load_features(detector: str, device: torch.device, folder: str | None) -> torch.nn.Module:
    """Load the network that compares images; without VGG16, the error names the one that needs no download."""
    try:
        return get_feature_detector(detector, device, verbose=True, folder=folder)
    except UserError as error:
        alternative = f"; or use --detector={EFFLITE1}, which needs no download" if detector == VGG16 else ""
        raise UserError(f"{error}{alternative}") from error


def optimize(steps: Iterator[Step], num_steps: int) -> torch.Tensor:
    """Run the projection, show its progress, and return the w after each step, ``[num_steps, w_dim]``."""
    start = time.monotonic()
    ws, distances = [], []
    with progress_bar("steps", num_steps, unit="step") as progress:
        for step in steps:
            ws.append(step.w)
            distances.append(step.distance)
            progress.set_postfix(distance=f"{step.distance:.4f}", refresh=False)
            progress.update()
    elapsed = format_time(time.monotonic() - start)
    click.echo(f"Distance {distances[0]:.4f} -> {distances[-1]:.4f} in {num_steps} steps, {elapsed}")
    return torch.stack(ws)


def draw(G: Any, w: torch.Tensor) -> np.ndarray:
    """Return the image of ``w`` [w_dim] with the noise maps of the network, uint8 ``[R, R, C]``."""
    image: np.ndarray = synthesize(G, w.expand(1, G.num_ws, -1))[0]
    return image


def video_frames(G: Any, ws: torch.Tensor, target: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the target next to the projection at increasing steps."""
    chosen = np.linspace(0, len(ws) - 1, min(len(ws), MAX_FRAMES)).round()
    for i in chosen.astype(int):
        yield np.concatenate([target, draw(G, ws[i])], axis=1)


if __name__ == "__main__":
    run_projection()
