"""Object detectors by name: ``scenes``, ``nanodet``, ``torchvision:MODEL`` and ``PATH.onnx``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import UserError
from dnnlib.file_content import sha256_of
from metrics.datasets import open_dataset
from metrics.detectors import DETECTORS, NANODET
from metrics.nanodet import NanoDet
from metrics.objects.nanodet_detector import NanoDetDetector
from metrics.objects.onnx_detector import OnnxDetector
from metrics.objects.protocol import ObjectDetector
from metrics.objects.scene_detector import WEIGHTS, SceneDetector, load_scene_net
from metrics.objects.torchvision_detector import TorchvisionDetector
from metrics.weights import find_weights, weights_sha256

SCENES = "scenes"
TORCHVISION = "torchvision:"
ONNX = ".onnx"

ALLOWED = f"{SCENES}, {NANODET}, {TORCHVISION}MODEL (such as {TORCHVISION}fcos_resnet50_fpn) or PATH{ONNX}"


def default_object_detector(dataset_kwargs: Mapping[str, Any]) -> str:
    """Name the detector for a dataset: ``scenes`` where objects are known, as in drawn scenes, else ``nanodet``.

    Args:
        dataset_kwargs: ``class_name`` and its keywords.
    """
    with open_dataset(dataset_kwargs) as dataset:
        return SCENES if getattr(dataset, "has_objects", False) else NANODET


def require_object_detector(name: str) -> None:
    """Refuse what names no object detector; nothing is loaded or downloaded.

    Raises:
        UserError: There is no such detector or file.
    """
    if name.endswith(ONNX) and not name.startswith(TORCHVISION):
        if not Path(name).is_file():
            raise UserError(f"--object-detector={name[:1000]}: there is no such file")
    elif name not in (SCENES, NANODET) and not name.startswith(TORCHVISION):
        raise UserError(f"no object detector {name[:100]!a}: --object-detector takes {ALLOWED}")


def load_object_detector(
    name: str, device: torch.device | str = "cpu", folder: str | None = None, verbose: bool = False
) -> ObjectDetector:
    """Load an object detector, downloading its weights if necessary.

    Args:
        name: ``scenes``, ``nanodet``, ``torchvision:MODEL`` or ``PATH.onnx``.
        device: Device that computes; ONNX programs run on the CPU.
        folder: Folder of the user that is searched first. Default: $MSCOND_DETECTORS.
        verbose: Announce a download.

    Raises:
        UserError: There is no such detector, its weights or a package are missing, or a file is damaged.
    """
    require_object_detector(name)
    device = torch.device(device)
    if name == SCENES:
        return _scenes(device)
    if name == NANODET:
        return _nanodet(find_weights(NANODET, folder, verbose), device)
    if name.startswith(TORCHVISION):
        return TorchvisionDetector(name.removeprefix(TORCHVISION), device, folder, verbose)
    return OnnxDetector(Path(name))


@functools.lru_cache(maxsize=2)
def _scenes(device: torch.device) -> ObjectDetector:
    return SceneDetector(load_scene_net(WEIGHTS).to(device), sha256_of(WEIGHTS))


@functools.lru_cache(maxsize=2)
def _nanodet(weights: Path, device: torch.device) -> ObjectDetector:
    assert DETECTORS[NANODET].sha256 is not None
    return NanoDetDetector(NanoDet(weights).to(device), weights_sha256(weights))
