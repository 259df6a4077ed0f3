"""Boxes in images: overlap, suppression of duplicates, comparison with true boxes.

Boxes are float32 [n, 4]: x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1.
"""

from __future__ import annotations

import torch


def pairwise_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of all pairs: [n, 4], [m, 4] -> [n, m] in 0..1."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=2)
    union = areas(a)[:, None] + areas(b)[None] - intersection
    return intersection / union.clamp(min=1e-9)


def areas(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas [n] of boxes [n, 4]; 0 for boxes that are turned inside out."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def longer_sides(boxes: torch.Tensor) -> torch.Tensor:
    """Return the longer sides [n] of boxes [n, 4]."""
    return (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)


def suppress_duplicates(
    boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, max_iou: float, max_boxes: int
) -> torch.Tensor:
    """Apply greedy non-maximum suppression within each category.

    Args:
        boxes: [n, 4].
        scores: [n].
        labels: Categories, integers [n].
        max_iou: A box that overlaps a better one of its category by more than this is a duplicate.
        max_boxes: Only the best boxes, this many, are looked at: time and memory grow with the square.

    Returns:
        Indices of the boxes that stay, best first.
    """
    order = scores.argsort(descending=True, stable=True)[:max_boxes]
    is_same = labels[order, None] == labels[None, order]
    is_duplicate = ((pairwise_iou(boxes[order], boxes[order]) > max_iou) & is_same).tolist()
    kept: list[int] = []
    for i in range(len(order)):
        if not any(is_duplicate[i][j] for j in kept):
            kept.append(i)
    return order[kept]


def matches(boxes: torch.Tensor, truth: torch.Tensor, min_iou: float) -> list[int]:
    """Assign boxes to true boxes: the best box first, each to the free true box that it overlaps most.

    Args:
        boxes: [n, 4], best first.
        truth: [m, 4].
        min_iou: Smallest overlap of a match.

    Returns:
        For each box the index of its true box, or -1.
    """
    overlaps = pairwise_iou(boxes, truth)
    assigned = []
    for row in overlaps:
        best = int(row.argmax()) if row.numel() else -1
        if best < 0 or row[best] < min_iou:
            assigned.append(-1)
            continue
        assigned.append(best)
        overlaps[:, best] = -1
    return assigned
