"""Generate images with a trained network: ``python generate.py --help``."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from dnnlib.click_command import Command
from dnnlib.flags import refuse
from dnnlib.formatting import plural
from dnnlib.progress import progress_bar
from metrics.objects.protocol import ObjectDetector
from metrics.objects.registry import ALLOWED as OBJECT_DETECTORS
from metrics.objects.registry import load_object_detector
from torch_utils.device import choose_device
from training.data.grid import write_png
from training.inference import options
from training.inference.grid_size import Grid, GridSize, fit_grid
from training.inference.latents import Latents, ProjectedLatents, flags_for_next, seed_latents
from training.inference.loading import load_generator
from training.inference.object_figure import check_images, chosen_categories, find_objects, object_figure
from training.inference.projected_w import load_projected_w
from training.inference.run_video import run_dir_of
from training.inference.sampling import in_batches, synthesize
from training.inference.video_command import Drawing, write_training_video, write_walks_or_sweep
from training.inference.video_frames import tile
from training.inference.video_options import VideoSettings, video_options


@click.command(cls=Command)
@options.network_option
@options.outdir_option
@click.option("--seeds", type=options.SEEDS, metavar="LIST", help="Random seeds, such as 0-35 or 1,2,3.")
@click.option(
    "--trunc",
    type=options.Truncation(),
    metavar="FLOAT|LOW:HIGH[:NUM]",
    default=1,
    show_default=True,
    help="Truncation psi; lower values trade variety for fidelity. A range is drawn as truncation.png, a row per seed.",
)
@click.option(
    "--centers",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Truncate towards the nearest center in a file of edit.py, not towards the mean.",
)
@options.class_option
@options.noise_mode_option
@click.option(
    "--projected-w",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Generate images from the w in a file of projector.py, not from seeds.",
)
@click.option(
    "--grid",
    type=GridSize(),
    is_flag=False,
    flag_value="auto",
    metavar="[COLUMNSxROWS|auto]",
    help="Also write all images as grid.png; auto is approximately square. With --video, one walk per cell.",
)
@video_options
@click.option(
    "--boxes",
    is_flag=False,
    flag_value="all",
    metavar="[CATEGORY,...]",
    help="Also draw boxes.png: a row per category with the boxes of the objects found; default: every category.",
)
@click.option(
    "--object-detector",
    metavar="NAME",
    default="nanodet",
    show_default=True,
    help=f"Detector for --boxes: {OBJECT_DETECTORS}.",
)
@options.detectors_option
@options.batch_option()
@options.device_option
@options.trust_option
@options.errors_in_one_line()
def generate_images(
    network: str,
    outdir: Path,
    seeds: list[int] | None,
    trunc: float | options.Sweep,
    centers: Path | None,
    class_idx: int | None,
    noise_mode: str,
    projected_w: Path | None,
    grid: Grid | None,
    video: VideoSettings | None,
    boxes: str | None,
    object_detector: str,
    detectors: str | None,
    batch: int,
    device_name: str,
    trust_pickle: bool,
) -> None:
    """Generate images with a trained network.

    \b
    Examples:
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --trunc=0.7
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-35 --class=1 --grid=9x4
      python generate.py --outdir=out --network=snapshot.pkl --projected-w=out/projected_w.npz
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-99 --boxes=car,person
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-15 --grid=2x2 --video
      python generate.py --outdir=out --network=snapshot.pkl --seeds=0-5 --trunc=0:1
      python generate.py --outdir=out --network=RUN --video --over-training

    Writes seedNNNN.png for each seed, or projNN.png for each projected w. With --batch=1 the pixels of a seed do not
    depend on the other seeds; larger batches are faster and may change the last bit.

    With --video, a video passes through the images instead: walk.mp4; with --trunc=LOW:HIGH, truncation.mp4; with
    --over-training, training.mp4.
    """  # noqa: D301 -- in a raw string click would not see its mark
    device = choose_device(device_name)
    is_moving = video is not None or (isinstance(trunc, options.Sweep) and projected_w is None)
    check_boxes(boxes, is_moving)
    drawing = Drawing(outdir, video, grid, batch, noise_mode, device)
    if video is not None and video.is_over_training:
        video_of_training(drawing, network, seeds or [], trunc, class_idx, trust_pickle)
        return
    if projected_w is None and not seeds:
        raise click.UsageError("give --seeds or --projected-w")
    if seeds and video is None:  # a video may pass through an image again
        seeds = options.once("--seeds", seeds)
    G = load_generator(network, device, trust_pickle)
    latents = choose_latents(G, seeds or [], projected_w, trunc, class_idx, centers, device)
    psi = trunc if projected_w is None else 1.0
    if is_moving:
        write_walks_or_sweep(drawing, G, latents, psi)
        return
    assert not isinstance(psi, options.Sweep)
    write_single_images(drawing, G, latents, psi, boxes, object_detector, detectors)
    if projected_w is None and len(latents.numbers) > 1 and G.num_ws > 1:
        suggest_mixing(network, outdir, latents.numbers, flags_for_next(G, class_idx, trust_pickle))


def write_single_images(
    drawing: Drawing,
    G: Any,
    latents: Latents,
    psi: float,
    boxes: str | None,
    object_detector: str,
    detectors: str | None,
) -> None:
    """Write an image for each latent, and grid.png and boxes.png if they are asked for.

    Raises:
        UserError: The images do not fit the grid, or too many are given for --boxes, or its detector cannot be loaded.
    """
    numbers, outdir = latents.numbers, drawing.outdir
    grid_size = None if drawing.grid is None else fit_grid(drawing.grid, len(numbers), G.img_resolution)
    if boxes is not None:
        check_images(len(numbers), G.img_resolution, G.img_channels)
    detector = None if boxes is None else load_object_detector(object_detector, drawing.device, detectors, verbose=True)
    labels = [] if detector is None else chosen_categories(str(boxes), detector)

    outdir.mkdir(parents=True, exist_ok=True)
    images = (
        image
        for part in in_batches(numbers, drawing.batch)
        for image in synthesize(G, latents.ws(part, psi), drawing.noise_mode, noise_seeds=part)
    )
    files = [outdir / latents.name.format(number) for number in numbers]
    kept = write_images(images, files, keep=grid_size is not None or detector is not None)
    extras = []
    if grid_size is not None:
        save_grid(kept, outdir / "grid.png", grid_size)
        extras.append("grid.png")
    if detector is not None and save_boxes(kept, files, outdir / "boxes.png", detector, labels):
        extras.append("boxes.png")
    report(outdir, [file.name for file in files], extras)


def write_images(images: Iterable[np.ndarray], files: list[Path], keep: bool) -> list[np.ndarray]:
    """Write images as they come; return them if they are to be kept."""
    kept = []
    with progress_bar("images", len(files), unit="img") as progress:
        for file, image in zip(files, images, strict=True):
            write_png(image, file)
            if keep:
                kept.append(image)
            progress.update()
    return kept


def suggest_mixing(network: str, outdir: Path, numbers: Sequence[int], flags: list[str]) -> None:
    """Print the command that mixes the styles of the first seed and of the last."""
    options.suggest(
        "style_mixing.py", network, outdir / "mixed", f"--rows={numbers[0]}", f"--cols={numbers[-1]}", *flags
    )


def video_of_training(
    drawing: Drawing,
    network: str,
    seeds: list[int],
    trunc: float | options.Sweep,
    class_idx: int | None,
    trust_pickle: bool,
) -> None:
    """Show the training run of a network: seeds by each of its snapshots, or without seeds the grids that it drew."""
    refuse("has no effect on a video over training, which takes --seeds", "projected_w", "centers")
    choose = None
    if seeds:
        choose = functools.partial(seed_latents, seeds=seeds, trunc=trunc, class_idx=class_idx, device=drawing.device)
    else:
        refuse("has no effect on the grids that a run drew: give --seeds", "grid", "trunc", "class_idx", "noise_mode")
    write_training_video(drawing, run_dir_of(network), choose, trunc, trust_pickle)


def choose_latents(
    G: Any,
    seeds: list[int],
    projected_w: Path | None,
    trunc: float | options.Sweep,
    class_idx: int | None,
    centers: Path | None,
    device: torch.device,
) -> Latents:
    """Return the latents of --seeds or --projected-w; warn about options without effect."""
    if centers is not None and projected_w is None and trunc == 1:
        options.warn("--centers has no effect at --trunc=1; give a lower one, such as --trunc=0.5")
    if projected_w is None:
        return seed_latents(G, seeds, trunc, class_idx, device, centers)
    if seeds or class_idx is not None or trunc != 1:
        options.warn("--seeds, --class and --trunc have no effect on --projected-w")
    if centers is not None:
        options.warn("--centers has no effect on --projected-w")
    return ProjectedLatents(load_projected_w(projected_w, G, device))


def report(outdir: Path, names: list[str], extras: list[str]) -> None:
    """Print which files were written."""
    files = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    click.echo(f"Wrote {plural(len(names), 'image')} to {outdir}: {' and '.join([files, *extras])}")


def check_boxes(boxes: str | None, is_moving: bool) -> None:
    """Refuse --boxes, or what belongs to it, where it has no effect."""
    if boxes is None:
        refuse("needs --boxes", "object_detector", "detectors")
    elif is_moving:
        raise click.UsageError("--boxes goes with single images, not with videos and ranges of --trunc")


def save_boxes(
    images: list[np.ndarray], files: list[Path], path: Path, detector: ObjectDetector, labels: list[int]
) -> bool:
    """Draw the objects in images ``[H, W, C]`` with the names of their files; return whether there were any."""
    names = [file.stem for file in files]
    with progress_bar("finding objects", None):
        figure = object_figure(images, names, find_objects(images, detector), labels, detector.categories)
    if figure is None:
        options.warn(f"object detector {detector.name} found nothing: no {path.name} was drawn")
        return False
    write_png(np.asarray(figure), path)
    return True


def save_grid(images: list[np.ndarray], path: Path, size: tuple[int, int]) -> None:
    """Write images ``[H, W, C]`` row by row as one PNG of ``size`` (columns, rows); unused cells are black."""
    write_png(tile(images, *size), path)


if __name__ == "__main__":
    generate_images()
