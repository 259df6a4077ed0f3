"""Recall and precision of an object detector where the true boxes are known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from metrics.objects.boxes import longer_sides, matches
from metrics.objects.protocol import Detections

MIN_IOU = 0.5


class TrueObjects(NamedTuple):
    """The objects in an image: boxes float32 [n, 4] in pixels, and labels int64 [n] in the detector's numbering."""

    boxes: torch.Tensor
    labels: torch.Tensor


class Accuracy(NamedTuple):
    """Numbers of objects of a category: true ones, those of them that were found, boxes, those that are right."""

    num_true: int = 0
    num_recalled: int = 0
    num_boxes: int = 0
    num_right: int = 0

    @property
    def recall(self) -> float:
        """Fraction of the true objects that were found; NaN without any."""
        return self.num_recalled / self.num_true if self.num_true else float("nan")

    @property
    def precision(self) -> float:
        """Fraction of the boxes that are right; NaN without any."""
        return self.num_right / self.num_boxes if self.num_boxes else float("nan")


def accuracy(
    pairs: Iterable[tuple[Detections, TrueObjects]], num_categories: int, min_side_px: float
) -> list[Accuracy]:
    """Compare what a detector found with the truth.

    A box is right if it overlaps a true box of its category by an intersection over union of `MIN_IOU`; every true box
    can make one box right, better boxes choose first.

    Args:
        pairs: What was found and what is true, per image.
        num_categories: Number of categories.
        min_side_px: Smaller objects, by their longer side, count neither as true nor as found, but a larger box may
            match one of them.

    Returns:
        One item per category.
    """
    totals = torch.zeros([num_categories, len(Accuracy._fields)], dtype=torch.int64)
    for found, truth in pairs:
        for label in set(found.labels.tolist()) | set(truth.labels.tolist()):
            boxes, true_boxes = found.boxes[found.labels == label], truth.boxes[truth.labels == label]
            assigned = torch.tensor(matches(boxes, true_boxes, MIN_IOU), dtype=torch.int64)
            counts_box = longer_sides(boxes) >= min_side_px
            counts_true = longer_sides(true_boxes) >= min_side_px
            recalled = counts_true[assigned[assigned >= 0]]
            right = counts_box & (assigned >= 0)
            totals[label] += torch.stack([x.sum() for x in (counts_true, recalled, counts_box, right)])
    return [Accuracy(*row) for row in totals.tolist()]
