"""Uncurated samples as in figures 4 to 6 of the supplement: consecutive seeds, truncated, none chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from comparison.picture_records import read_record, write_record
from torch_utils.device import choose_device
from training.data.grid import write_png
from training.inference.loading import load_generator
from training.inference.sampling import can_truncate, class_label, map_seeds, synthesize
from training.inference.video_frames import tile

COLUMNS, ROWS = 8, 4
"""Real images in the folder of a run."""
DAMAGED = (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError)
"""What Pillow raises for files that are not pictures."""
TRUNCATION_PSI = 0.7
"""The supplement says that its samples are truncated, but not how much; this is StyleGAN's usual value."""


def draw_samples(snapshot: Path, path: Path, device_name: str = "auto") -> None:
    """Draw the images of seeds 0, 1, ... row by row; a record beside the file says how they were drawn.

    The record is written last: where it names this snapshot, nothing is done.

    Args:
        snapshot: The network.
        path: The PNG file.
        device_name: ``auto``, or the name of a device.
    """
    record = {"snapshot_pkl": snapshot.name, "seeds": [0, COLUMNS * ROWS - 1], "truncation_psi": TRUNCATION_PSI}
    if path.is_file() and read_record(path) == record:
        return
    device = choose_device(device_name)
    G = load_generator(str(snapshot), device)
    psi = TRUNCATION_PSI if can_truncate(G) else 1.0
    record["truncation_psi"] = psi
    label = class_label(G, 0 if G.c_dim else None, device)
    img = synthesize(G, map_seeds(G, range(COLUMNS * ROWS), label, psi))
    write_png(tile(list(img), COLUMNS), path)
    write_record(path, record)


def real_images(reals: Path, resolution: int) -> np.ndarray | None:
    """Cut as many images as samples have out of the `REALS_FILE` of a run; None if there are too few, or damaged."""
    try:
        with PIL.Image.open(reals) as image:
            pixels = np.asarray(image.convert("RGB"))
    except DAMAGED:
        return None
    cut = pixels[: ROWS * resolution, : COLUMNS * resolution]
    return cut if cut.shape[:2] == (ROWS * resolution, COLUMNS * resolution) else None
