"""The images that ``generate.py`` writes one by one, and the pictures of them all: ``grid.png`` and ``boxes.png``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from dnnlib.formatting import plural
from dnnlib.progress import progress_bar
from metrics.objects.protocol import ObjectDetector
from metrics.objects.registry import load_object_detector
from training.data.grid import write_png
from training.inference import options
from training.inference.grid_size import fit_grid
from training.inference.latents import Latents
from training.inference.object_figure import check_images, chosen_categories, find_objects, object_figure
from training.inference.sampling import in_batches, synthesize
from training.inference.video_command import Drawing
from training.inference.video_frames import tile


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


def report(outdir: Path, names: list[str], extras: list[str]) -> None:
    """Print which files were written."""
    files = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    click.echo(f"Wrote {plural(len(names), 'image')} to {outdir}: {' and '.join([files, *extras])}")
