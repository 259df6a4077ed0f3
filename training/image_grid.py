"""Grids of sample images: their size, and which real images are shown."""

from __future__ import annotations

import numpy as np

from training.dataset import Dataset


def grid_size(height_px: int, width_px: int) -> tuple[int, int]:
    """(columns, rows) of a grid of about 8K resolution (CONTRACT 8)."""
    return int(np.clip(7680 // width_px, 7, 32)), int(np.clip(4320 // height_px, 4, 32))


def setup_snapshot_image_grid(
    training_set: Dataset, random_seed: int = 0
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Choose real images for a grid: at random, or one label per row where there are labels.

    Args:
        training_set: Images with labels.
        random_seed: Decides the choice.

    Returns:
        (columns, rows), images uint8 ``[columns * rows, C, H, W]`` row by row, labels ``[columns * rows, label_dim]``.
    """
    rng = np.random.RandomState(random_seed)
    columns, rows = grid_size(*training_set.image_shape[1:])
    order = rng.permutation(len(training_set))
    if training_set.has_labels:
        indices = _one_label_per_row(training_set, order, columns, rows)
    else:
        indices = np.resize(order, columns * rows)
    images, labels = zip(*(training_set[int(i)] for i in indices), strict=True)
    return (columns, rows), np.stack(images), np.stack(labels)


def _one_label_per_row(training_set: Dataset, order: np.ndarray, columns: int, rows: int) -> np.ndarray:
    groups: dict[bytes, list[int]] = {}
    for index in order:
        groups.setdefault(training_set.get_label(int(index)).tobytes(), []).append(int(index))
    ordered = [groups[key] for key in sorted(groups)]
    return np.concatenate([np.resize(ordered[row % len(ordered)], columns) for row in range(rows)])
