"""A figure of the objects in generated images: a titled row per category, the images with boxes, names and scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from metrics.objects.crops import countable, min_side_px
from metrics.objects.protocol import Detections, ObjectDetector

COLUMNS = 6
"""Most images per row: those with the surest objects of the category."""

MIN_CELL_PX = 192
"""Smaller images are enlarged by a whole factor, so that the boxes do not hide them."""

MAX_IMAGES = 4096
MAX_IMAGES_MIB = 4096
"""All images are kept until the figure is drawn: 1365 of 1024 px in RGB."""

_BATCH = 16
_BOX_COLOR = (255, 64, 64)
_TEXT_COLOR = (32, 32, 32)
_PAPER_COLOR = (255, 255, 255)
_GAP_PX = 6
_TEXT_PX = 14
"""Height of a line of text."""


def find_objects(images: Sequence[np.ndarray], detector: ObjectDetector) -> list[Detections]:
    """Find the objects that count for metrics in images, uint8 [H, W, 1 or 3]."""
    found = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(np.stack(images[start : start + _BATCH])).permute(0, 3, 1, 2)
        batch = batch.expand(-1, 3, -1, -1)
        found += [countable(one, min_side_px(detector, *batch.shape[2:])) for one in detector.detect(batch)]
    return found


def check_images(num: int, resolution_px: int, num_channels: int) -> None:
    """Check that square images fit in memory before they are drawn.

    Raises:
        UserError: There are more than `MAX_IMAGES`, or more than `MAX_IMAGES_MIB` of them.
    """
    num_bytes = resolution_px**2 * num_channels
    most = min(MAX_IMAGES, (MAX_IMAGES_MIB << 20) // num_bytes)
    if num > most:
        raise UserError(f"--boxes chooses among at most {most} images of {resolution_px} px, got {num}: give fewer")


def chosen_categories(text: str, detector: ObjectDetector) -> list[int]:
    """Return the labels of comma-separated categories; ``all`` gives those of the detector.

    Raises:
        UserError: The detector does not know one of them.
    """
    if text == "all":
        return list(range(len(detector.categories)))
    names = [name.strip() for name in text.split(",")]
    unknown = [ascii(name[:50]) for name in names if name not in detector.categories]
    if unknown:
        known = ", ".join(detector.categories)
        raise UserError(f"--boxes: object detector {detector.name} does not know {', '.join(unknown)}, only {known}")
    return [detector.categories.index(name) for name in dict.fromkeys(names)]


def object_figure(
    images: Sequence[np.ndarray],
    names: Sequence[str],
    found: Sequence[Detections],
    labels: Sequence[int],
    categories: Sequence[str],
) -> Image.Image | None:
    """Draw the figure.

    Args:
        images: uint8 [H, W, 1 or 3], all of one size.
        names: What stands below each of them, such as its seed.
        found: The objects in each of them.
        labels: Categories that get a row, if any image shows one.
        categories: Names of all categories.

    Returns:
        An RGB image, or None if nothing was found.
    """
    rows = [(label, order) for label in labels if (order := _surest(found, label))]
    if not rows:
        return None
    factor = -(-MIN_CELL_PX // max(images[0].shape[:2]))
    height, width = (side * factor for side in images[0].shape[:2])
    columns = max(len(order[:COLUMNS]) for _label, order in rows)
    row_px = _TEXT_PX + height + _TEXT_PX + _GAP_PX
    figure = Image.new("RGB", (_GAP_PX + columns * (width + _GAP_PX), _GAP_PX + len(rows) * row_px), _PAPER_COLOR)
    draw = ImageDraw.Draw(figure)
    for row, (label, order) in enumerate(rows):
        top = _GAP_PX + row * row_px
        text = f"{categories[label]}: {len(order)} of {plural(len(images), 'image')}"
        draw.text((_GAP_PX, top), text, fill=_TEXT_COLOR)
        for column, (index, score) in enumerate(order[:COLUMNS]):
            corner = (_GAP_PX + column * (width + _GAP_PX), top + _TEXT_PX)
            figure.paste(_cell(images[index], found[index].boxes[found[index].labels == label], factor), corner)
            caption = f"{names[index]}, score {score:.2f}"
            draw.text((corner[0], corner[1] + height), caption, fill=_TEXT_COLOR)
    return figure


def _surest(found: Sequence[Detections], label: int) -> list[tuple[int, float]]:
    """Return the images that show a category, and the best score in each, best first."""
    best = {i: float(one.scores[one.labels == label].max()) for i, one in enumerate(found) if label in one.labels}
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))


def _cell(image: np.ndarray, boxes: torch.Tensor, factor: int) -> Image.Image:
    rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    cell = Image.fromarray(np.ascontiguousarray(rgb))
    cell = cell.resize((cell.width * factor, cell.height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(cell)
    for box in boxes.tolist():
        x0, y0, x1, y1 = (round(edge * factor) for edge in box)
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=_BOX_COLOR, width=2)
    return cell
