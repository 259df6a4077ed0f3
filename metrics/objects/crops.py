"""Crops of the objects in images: which ones, and how they are cut out."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from metrics.objects.boxes import longer_sides
from metrics.objects.protocol import Detections, ObjectDetector

THRESHOLD = 0.4
"""Objects with a lower score do not count."""

MIN_SIDE = 1 / 12
"""Smaller objects do not count: the longer side of the box as a fraction of the image's shorter one."""

MARGIN = 1.1
"""Side of a crop in longer sides of its box."""


def min_side_px(detector: ObjectDetector, height: int, width: int) -> float:
    """Shortest longer side, in pixels, of the objects that count in images of this size."""
    return max(MIN_SIDE * min(height, width), detector.min_side_px)


def countable(found: Detections, min_px: float) -> Detections:
    """Drop the objects with a low score and the small ones."""
    return found.select((found.scores >= THRESHOLD) & (longer_sides(found.boxes) >= min_px))


def cut(image: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Cut out a square around a box, moved into the image where it would reach beyond.

    Args:
        image: uint8 [3, H, W].
        box: [4], in pixels.

    Returns:
        uint8 [3, S, S]; S is 1.1 times the longer side of the box, at most the shorter side of the image.
    """
    height, width = image.shape[1:]
    side = max(min(round(MARGIN * float(longer_sides(box[None]))), height, width), 1)
    x, y = (float(box[axis] + box[axis + 2]) / 2 - side / 2 for axis in (0, 1))
    left, top = (min(max(round(start), 0), size - side) for start, size in ((x, width), (y, height)))
    return image[:, top : top + side, left : left + side]


def resized(crop: torch.Tensor, side_px: int) -> torch.Tensor:
    """Resample a crop [3, S, S] to a side (antialiased bicubic), and round: uint8 [3, side_px, side_px]."""
    if crop.shape[-1] == side_px:
        return crop
    x = F.interpolate(crop[None].to(torch.float32), (side_px, side_px), mode="bicubic", antialias=True)
    return x[0].round().clamp(0, 255).to(torch.uint8)


@dataclass(order=True)
class _Kept:
    priority: float
    place: tuple[int, int]
    crop: torch.Tensor = field(compare=False)


class CropSample:
    """A random sample of the crops that come by; it depends on the seed, not on the order or on the batches.

    Args:
        max_crops: Size of the sample.
        max_side_px: Larger crops are kept at this size, to which they will be resampled anyway.
        seed: Random seed.
    """

    def __init__(self, max_crops: int, max_side_px: int, seed: int) -> None:
        self.max_crops = max_crops
        self.max_side_px = max_side_px
        self.seed = seed
        self.kept: list[_Kept] = []

    def add(self, index: int, image: torch.Tensor, boxes: torch.Tensor) -> None:
        """Offer the objects of image number ``index``: uint8 [3, H, W], boxes [n, 4]."""
        priorities = np.random.RandomState([self.seed, index]).rand(len(boxes))
        for number, (box, priority) in enumerate(zip(boxes, priorities, strict=True)):
            if len(self.kept) == self.max_crops and priority <= self.kept[0].priority:
                continue
            crop = cut(image, box)
            if crop.shape[-1] > self.max_side_px:
                crop = resized(crop, self.max_side_px)
            self._keep(_Kept(float(priority), (index, number), crop.cpu().clone()))

    def merge(self, others: list[CropSample]) -> None:
        """Take the crops of other processes too; an image that two of them saw counts once."""
        places = {kept.place for kept in self.kept}
        for other in others:
            for kept in other.kept:
                if kept.place not in places:
                    places.add(kept.place)
                    self._keep(kept)

    def best(self, num: int) -> list[torch.Tensor]:
        """Return a random part of the sample, always in the same order."""
        return [kept.crop for kept in sorted(self.kept, reverse=True)[:num]]

    def _keep(self, kept: _Kept) -> None:
        (heapq.heappush if len(self.kept) < self.max_crops else heapq.heappushpop)(self.kept, kept)
