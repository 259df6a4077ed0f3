"""What an object detector is: images in, boxes with scores and categories out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch


class Detections(NamedTuple):
    """The objects in one image, best first, on the CPU.

    Attributes:
        boxes: float32 [n, 4]: x0, y0, x1, y1 in pixels of the image, within it.
        scores: float32 [n] in 0..1.
        labels: int64 [n], indices into the categories of the detector.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor

    def select(self, keep: torch.Tensor) -> Detections:
        """Return the objects that a boolean mask [n] or indices name."""
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep])


class ObjectDetector(Protocol):
    """A detector, ready for use.

    Attributes:
        name: Its name in results.
        categories: Names of the categories.
        sha256: Checksum of its weights.
        min_side_px: Objects whose longer side is shorter than this are not reliable, in pixels of the image.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def categories(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def min_side_px(self) -> float: ...  # noqa: D102

    def detect(self, img: torch.Tensor) -> list[Detections]:
        """Find objects.

        Args:
            img: RGB [N, 3, H, W], uint8.
        """
