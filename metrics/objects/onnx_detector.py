"""Object detectors as ONNX programs, which compute and do nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from dnnlib.file_content import sha256_of
from metrics.objects.protocol import Detections

OUTPUTS = ("boxes", "scores", "labels")


class OnnxDetector:
    """An ONNX program as an object detector (`metrics.objects.protocol.ObjectDetector`).

    It takes one RGB image, float32 [1, 3, H, W] in 0..1, of any size or of a fixed one, and has the outputs ``boxes``
    [n, 4] (x0, y0, x1, y1 in pixels), ``scores`` [n] and ``labels`` [n], as torchvision exports them. Its metadata say
    in ``categories`` what the labels 0, 1, 2, ... mean, separated by commas.

    Args:
        path: The program.

    Raises:
        UserError: The package is missing, or the program is not of this form.
    """

    min_side_px = 20.0

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as err:
            raise UserError(f"{path} needs package onnxruntime: {how_to_install('onnx')}") from err
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as err:  # classes of its own, without a common base
            raise UserError(f"{path} is not an ONNX program that onnxruntime can run: {str(err)[:200]!a}") from err
        names = self._session.get_modelmeta().custom_metadata_map.get("categories", "")
        outputs = {output.name for output in self._session.get_outputs()}
        inputs = self._session.get_inputs()
        if not names or not set(OUTPUTS) <= outputs or len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise UserError(
                f"{path}: an ONNX detector has one input [1, 3, H, W], the outputs {', '.join(OUTPUTS)}, and its "
                "categories, separated by commas, as metadata 'categories'"
            )
        if not names.isprintable():  # they are printed, and might act on the terminal
            raise UserError(
                f"{path}: its metadata 'categories' are {names[:200]!a}, not names of printable characters "
                "separated by commas; export it again with such names"
            )
        self.name = path.name
        self.categories = tuple(name.strip() for name in names.split(","))
        self.sha256 = sha256_of(path)
        self._input = inputs[0].name
        size = inputs[0].shape[2:]
        self._size = tuple(size) if all(isinstance(side, int) for side in size) else None

    def detect(self, img: torch.Tensor) -> list[Detections]:
        """Find objects; see `ObjectDetector`.

        Raises:
            UserError: The outputs have other shapes, or labels without a category.
        """
        height, width = img.shape[2:]
        x = img.cpu().to(torch.float32)
        size = self._size or (height, width)
        if size != (height, width):
            x = F.interpolate(x, size, mode="bilinear", antialias=True)
        scale = torch.tensor([width / size[1], height / size[0]]).repeat(2)
        return [self._detect(image[None].numpy() / 255, scale) for image in x]

    def _detect(self, image: np.ndarray, scale: torch.Tensor) -> Detections:
        boxes, scores, labels = (
            torch.from_numpy(np.array(value)) for value in self._session.run(OUTPUTS, {self._input: image})
        )
        labels = labels.to(torch.int64)
        is_good = boxes.shape == (len(scores), 4) and scores.shape == labels.shape == (len(scores),)
        if not is_good or not bool(((labels >= 0) & (labels < len(self.categories))).all()):
            raise UserError(
                f"{self.name}: its outputs have the shapes {list(boxes.shape)}, {list(scores.shape)} and "
                f"{list(labels.shape)}, or labels beyond its {len(self.categories)} categories"
            )
        order = scores.argsort(descending=True, stable=True)
        return Detections(boxes.to(torch.float32) * scale, scores.to(torch.float32), labels).select(order)
