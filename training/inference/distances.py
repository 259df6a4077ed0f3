"""Distances between images: of their pixels, and in a feature network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dnnlib.formatting import format_number
from metrics.detectors import EFFLITE1, VGG16
from training.data.names import shown
from training.inference.projection import perceptual_features, squared_distances
from training.inference.targets import to_tensor

_NAMES = {EFFLITE1: "perceptual (efflite)", VGG16: "LPIPS (VGG16)"}


def distance_name(detector: str) -> str:
    """Return the name of the distance in a feature network: LPIPS only for the network that was calibrated for it."""
    return _NAMES.get(detector) or f"perceptual ({shown(Path(detector).stem)})"


def distances(
    image: np.ndarray, target: np.ndarray, detector: torch.nn.Module, name: str, device: torch.device
) -> dict[str, float]:
    """Return the distances between two uint8 images ``[H, W, C]``.

    Args:
        image: One image.
        target: The other image.
        detector: Feature network.
        name: Name of the distance in it, see `distance_name`.
        device: Device of the feature network.

    Returns:
        ``'pixels'``, the root of the mean squared difference, 0..255; and the squared distance of the features.
    """
    error = float(np.sqrt(np.mean((image.astype(np.float64) - target) ** 2)))
    with torch.no_grad():
        features = [perceptual_features(detector, to_tensor([each], device)) for each in (image, target)]
    return {"pixels": error, name: squared_distances(*features).item()}


def mean_distances(each: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every distance over several images."""
    return {key: sum(values[key] for values in each) / len(each) for key in each[0]}


def format_distances(values: dict[str, float]) -> str:
    """Write distances with their names."""
    return ", ".join(f"{key} {format_number(value)}" for key, value in values.items())
