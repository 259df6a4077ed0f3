"""Grids of sample images: their size, which real images are shown, and the latents of the generated ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from training.data.labels import rank_labels
from training.dataset import Dataset


def grid_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Return (columns, rows) of a grid of about 7680 x 4320 pixels, at least 7 x 4 and at most 32 x 32 images.

    The numbers are those of StyleGAN2-ADA (docs/compatibility.md).
    """
    return int(np.clip(7680 // width_px, 7, 32)), int(np.clip(4320 // height_px, 4, 32))


def setup_snapshot_image_grid(
    training_set: Dataset, random_seed: int = 0
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Choose real images for a grid: at random, or one label per row if there are labels.

    Args:
        training_set: Images with labels.
        random_seed: Seed of the choice.

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
    _, labels, counts = np.unique(_label_ranks(training_set)[order], return_inverse=True, return_counts=True)
    by_label = order[np.argsort(labels, kind="stable")]
    begins = np.cumsum(counts) - counts
    indices = list[np.ndarray]()
    for row in range(rows):
        num_earlier, label = divmod(row, len(counts))  # rows of this label above go on with further images of it
        same = by_label[begins[label] : begins[label] + counts[label]]
        indices.append(np.take(same, num_earlier * columns + np.arange(columns), mode="wrap"))
    return np.concatenate(indices)


def _label_ranks(training_set: Any) -> np.ndarray:
    if isinstance(training_set, Dataset):
        return training_set.label_ranks()
    return rank_labels(map(training_set.get_label, range(len(training_set))))  # a class of other origin


class SampleGrid:
    """The real images of a grid, and the latents and labels of the samples of the same layout.

    Every process constructs one, so that the random streams of all processes advance alike.

    Args:
        training_set: Images with labels.
        z_dim: Width of the latents.
        device: Where images are generated.
    """

    def __init__(self, training_set: Dataset, z_dim: int, device: torch.device) -> None:
        self.size, self.real_img, labels = setup_snapshot_image_grid(training_set)
        self._z = torch.randn([labels.shape[0], z_dim], device=device)
        self._c = torch.from_numpy(labels).to(device)

    @torch.no_grad()
    def draw(self, G_ema: Any, batch_size: int) -> np.ndarray:
        """Generate the images of the grid, float32 ``[columns * rows, C, H, W]`` of about [-1, 1], with fixed noise."""
        batches = zip(self._z.split(batch_size), self._c.split(batch_size), strict=True)
        img: np.ndarray = torch.cat([G_ema(z, c, noise_mode="const").cpu() for z, c in batches]).numpy()
        return img

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the latents and labels."""
        return {"z": self._z, "c": self._c}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._z.copy_(state["z"])
        self._c.copy_(state["c"])
