"""Measurements on a sample grid: how much samples differ, how near they are to training images, whether they leak.

All of them compare images that are scaled down to `SIDE_PX`. They are computed with numpy: operations this small take
longer in torch, whose threads wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from training.run.health.history import DIVERSITY, LEAK, NEAREST_REAL

SIDE_PX = 16
MAX_SAMPLES = 256
"""Largest number of images of a grid that are compared."""
MAX_TRAINING_IMAGES = 2000
"""Largest training set that is searched for copies: networks hardly memorize more, and reading images takes time."""
MIN_AUGMENT_P = 0.3
"""Smallest augmentation probability at which leaks are looked for."""

Augment = Callable[[np.ndarray], np.ndarray]
"""Augments images, float32 ``[N, C, H, W]`` of [-1, 1]."""


class SampleMeter:
    """Measures the sample grids of one run.

    Args:
        training_set: Pairs of an image, uint8 ``[C, H, W]``, and its label.
        real_img: The real images of the grid, uint8 ``[N, C, H, W]``.
    """

    def __init__(self, training_set: Any, real_img: np.ndarray) -> None:
        self._training_set = training_set
        self._reals = to_range(_different(real_img[: 2 * MAX_SAMPLES])[:MAX_SAMPLES])
        self._small_reals = shrink(self._reals)
        self._training_images: np.ndarray | None = None
        self._real_distance = 0.0

    def measure(self, img: np.ndarray, augment: Augment | None = None) -> dict[str, float]:
        """Measure a grid.

        Args:
            img: Images of the grid, float32 ``[N, C, H, W]`` of about [-1, 1].
            augment: Augmentation of the images that D sees; None if there is none that can leak.

        Returns:
            ``Health/diversity``: distance between samples relative to that between real images, 0 if all are alike.
            ``Health/nearest_real``: distance to the nearest training image relative to that between training images.
            ``Health/leak``: distance to augmented real images relative to the distance to real images.
            What cannot be measured is left out.
        """
        samples = shrink(img[:MAX_SAMPLES])
        found: dict[str, float] = {}
        num = min(len(samples), len(self._small_reals))
        if num > 2 and (real := neighbor_distance(self._small_reals[:num])) > 0:
            found[DIVERSITY] = neighbor_distance(samples[:num]) / real
        if (nearest := self._distance_to_training_images(samples)) is not None:
            found[NEAREST_REAL] = nearest
        if augment is not None and num > 2:
            found[LEAK] = leak(np.asarray(img[:num], dtype=np.float32), self._reals, augment(self._reals))
        # As float32, which is what training_stats keeps.
        return {name: float(np.float32(value)) for name, value in found.items() if np.isfinite(value)}

    def _distance_to_training_images(self, samples: np.ndarray) -> float | None:
        if not 3 <= len(self._training_set) <= MAX_TRAINING_IMAGES:
            return None
        if self._training_images is None:
            images = (self._training_set[i][0][np.newaxis] for i in range(len(self._training_set)))
            self._training_images = np.concatenate([shrink(to_range(image)) for image in images])
            self._real_distance = neighbor_distance(self._training_images)
        if self._real_distance == 0:  # every image is there twice
            return None
        nearest = _distances(samples, self._training_images).min(axis=1)
        return float(np.median(nearest)) / self._real_distance


def _different(img: np.ndarray) -> np.ndarray:
    """Leave out repeated images, in the order of the grid: that of `np.unique` begins with the darkest corners."""
    first = np.unique(img, axis=0, return_index=True)[1]
    return img[np.sort(first)]


def to_range(img: np.ndarray) -> np.ndarray:
    """Convert uint8 pixels to float32 of [-1, 1]."""
    return np.asarray(img, dtype=np.float32) / 127.5 - 1


def shrink(img: np.ndarray) -> np.ndarray:
    """Scale images ``[N, C, H, W]`` down by averaging, to vectors, float32 ``[N, C * SIDE_PX**2]``."""
    num, channels, height, width = img.shape
    rows, columns = min(SIDE_PX, height), min(SIDE_PX, width)
    pixels = np.asarray(img[:, :, : height // rows * rows, : width // columns * columns], dtype=np.float32)
    blocks = pixels.clip(-1, 1).reshape(num, channels, rows, height // rows, columns, width // columns)
    return np.ascontiguousarray(blocks.mean(axis=(3, 5)).reshape(num, -1))


def neighbor_distance(vectors: np.ndarray) -> float:
    """Return the median distance of vectors ``[N, D]`` to their nearest neighbors among themselves."""
    distances = _distances(vectors, vectors)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(axis=1)[:, np.newaxis] + (b**2).sum(axis=1) - 2 * a @ b.T
    # Rounding leaves equal images a little apart; an eighth of a grey level is no distance.
    squares[squares < a.shape[1] * (1 / 1020) ** 2] = 0
    root: np.ndarray = np.sqrt(squares)
    return root


def leak(samples: np.ndarray, reals: np.ndarray, augmented: np.ndarray) -> float:
    """Compare the distance of samples to augmented real images with that to real ones, in what augmentations change.

    Args:
        samples: Generated images, float32 ``[N, C, H, W]`` of about [-1, 1].
        reals: Real images.
        augmented: The same, augmented.

    Returns:
        Near 0 if samples look like augmented images, large if they look like real ones.
    """
    real, shifted, fake = _appearance(reals), _appearance(augmented), _appearance(samples)
    scale = real.std(axis=0) + 1e-6
    return _gap(fake, shifted, scale) / (_gap(fake, real, scale) + 1e-6)


def _appearance(img: np.ndarray) -> np.ndarray:
    """Describe each image by what augmentations change, ``[N, features]``.

    These are brightness and contrast by channel, how much channels differ, and how much rows differ compared with
    columns, which rotations exchange.
    """
    img = img.clip(-1, 1)
    rows = np.abs(np.diff(img, axis=2)).mean(axis=(1, 2, 3))
    columns = np.abs(np.diff(img, axis=3)).mean(axis=(1, 2, 3))
    direction = (rows - columns) / (rows + columns + 1e-6)
    saturation = img.std(axis=1).mean(axis=(1, 2))
    mean, std = img.mean(axis=(2, 3)), img.std(axis=(2, 3))
    return np.concatenate([mean, std, saturation[:, np.newaxis], direction[:, np.newaxis]], axis=1)


def _gap(a: np.ndarray, b: np.ndarray, scale: np.ndarray) -> float:
    """Return the distance of two sets of features ``[N, F]`` in mean and spread, in units of ``scale``."""
    by_mean = ((a.mean(axis=0) - b.mean(axis=0)) / scale) ** 2
    by_std = ((a.std(axis=0) - b.std(axis=0)) / scale) ** 2
    return float(np.sqrt((by_mean + by_std).sum()))
