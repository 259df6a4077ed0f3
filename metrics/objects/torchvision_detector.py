"""Detectors of torchvision (BSD-3): Faster R-CNN, FCOS, RetinaNet, SSD and their weights for COCO."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from metrics.detectors import Detector
from metrics.objects.protocol import Detections
from metrics.weights import find_file, weights_sha256


class TorchvisionDetector:
    """A model of ``torchvision.models.detection`` as an object detector (`metrics.objects.protocol.ObjectDetector`).

    Args:
        model: Its name, such as ``fcos_resnet50_fpn``.
        device: Device that computes.
        folder: Folder of the user that is searched first for the weights.
        verbose: Announce a download.

    Raises:
        UserError: The package is missing, has no such model, or its weights are missing or have another sha256 than
            their name says.
    """

    min_side_px = 20.0

    def __init__(self, model: str, device: torch.device, folder: str | None = None, verbose: bool = False) -> None:
        try:
            import torchvision
        except ImportError as err:
            how = how_to_install("objects")
            raise UserError(f"torchvision:{model[:100]} needs package torchvision: {how}") from err
        models = torchvision.models.list_models(module=torchvision.models.detection)
        known = [name for name in models if not name.startswith(("mask", "keypoint"))]
        if model not in known:
            raise UserError(f"torchvision has no object detector {model[:100]!a}: choose from {', '.join(known)}")
        weights = torchvision.models.get_model_weights(model).DEFAULT
        self.name = f"torchvision:{model}"
        self.categories = tuple(weights.meta["categories"])
        path = find_file(Detector(self.name, weights.url, load=_no_module), folder, verbose)
        self.sha256 = weights_sha256(path)
        check_name(weights.url, self.sha256)
        net = torchvision.models.get_model(model, weights=None, weights_backbone=None, num_classes=len(self.categories))
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.net: Any = net.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def detect(self, img: torch.Tensor) -> list[Detections]:
        """Find objects; see `ObjectDetector`. The model resizes the images itself."""
        found = []
        for image in img:
            output = {name: value.cpu() for name, value in self.net([image / 255])[0].items()}
            order = output["scores"].argsort(descending=True, stable=True)
            found.append(Detections(output["boxes"], output["scores"], output["labels"]).select(order))
        return found


def check_name(url: str, sha256: str) -> None:
    """Compare a checksum with its beginning in the file name, as in ``fcos_resnet50_fpn_coco-99b0c9b7.pth``.

    Raises:
        UserError: They differ.
    """
    name = url.rpartition("/")[2]
    stated = re.search(r"-([0-9a-f]{8,})\.pth$", name)
    if stated and not sha256.startswith(stated[1]):
        raise UserError(f"{name} has the sha256 {sha256}, which should begin with {stated[1]}: delete it and try again")


def _no_module(path: Path) -> torch.nn.Module:
    raise AssertionError(f"{path} holds weights but no module")
