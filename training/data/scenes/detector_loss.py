"""What the scene detector is trained for: "Objects as Points" (arXiv:1904.07850), with Gaussians that fit the boxes.

The score of a category should be 1 in the cell that holds the center of an object and fall off around it as a Gaussian
(arXiv:1909.00700, section 4.1); the cells near a center should know the box.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from metrics.objects.scene_detector import CATEGORIES, CELL_PX, INPUT_PX

_CELLS = INPUT_PX // CELL_PX

_SIGMA_PER_SIDE = 0.09
"""Standard deviation of the Gaussian as a fraction of the side of the box (arXiv:1909.00700: 0.54 / 6)."""

_MIN_SIGMA_CELLS = 0.4
_MIN_WEIGHT = 0.3
"""Cells where the Gaussian is lower do not learn the box."""

_BOX_WEIGHT = 2.0


def detection_loss(
    logits: torch.Tensor, boxes: torch.Tensor, true_boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        logits: [N, C, cells, cells] of `SceneNet`.
        boxes: [N, C, 4, cells, cells] of `SceneNet`.
        true_boxes: N tensors [n, 4] in pixels, in the order in which they were drawn.
        labels: N tensors [n], indices into `CATEGORIES`.
    """
    truth = torch.cat(list(true_boxes))
    bumps, is_center = gaussians(truth)
    images = torch.repeat_interleave(torch.arange(len(labels)), torch.tensor([len(one) for one in labels]))
    maps = images * len(CATEGORIES) + torch.cat(list(labels))  # each category of each image has a map
    heat = torch.zeros([len(labels) * len(CATEGORIES), _CELLS, _CELLS])
    heat.scatter_reduce_(0, maps[:, None, None].expand_as(bumps), bumps, "amax")
    focal = _focal_loss(logits.flatten(0, 1), heat) / max(int(is_center.sum()), 1)
    # A cell learns the box whose Gaussian is highest in it.
    owns = (bumps >= _MIN_WEIGHT) & (bumps == heat[maps])
    objects, rows, columns = owns.nonzero(as_tuple=True)
    found = boxes.flatten(0, 1)[maps[objects], :, rows, columns]
    weights = bumps[objects, rows, columns]
    overlap = 1 - generalized_iou(found, truth[objects])
    return focal + _BOX_WEIGHT * (overlap * weights).sum() / weights.sum().clamp(min=1)


def gaussians(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a map per box, [n, 4] -> [n, cells, cells], that is exactly 1 in the cell of the center; and those cells."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / CELL_PX
    cells = centers.floor().clamp(0, _CELLS - 1)
    sigmas = ((boxes[:, 2:] - boxes[:, :2]) / CELL_PX * _SIGMA_PER_SIDE).clamp(min=_MIN_SIGMA_CELLS)
    steps = torch.arange(_CELLS) - cells[:, :, None]  # [n, (x, y), cells]
    along = torch.exp(-(steps**2) / (2 * sigmas[:, :, None] ** 2))
    maps = along[:, 1, :, None] * along[:, 0, None, :]
    return maps, maps == 1


def _focal_loss(logits: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss (arXiv:1904.07850, eq. 1: alpha = 2, beta = 4), summed over cells."""
    p = logits.sigmoid()
    positive = F.logsigmoid(logits) * (1 - p) ** 2
    negative = F.logsigmoid(-logits) * p**2 * (1 - heat) ** 4
    return -torch.where(heat == 1, positive, negative).sum()


def generalized_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the generalized IoU (arXiv:1902.09630) of boxes with equal shapes [..., 4] -> [...] in -1..1."""

    def area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return (high - low).clamp(min=0).prod(dim=-1)

    inner = area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    hull = area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])).clamp(min=1e-9)
    union = area(a[..., :2], a[..., 2:]) + area(b[..., :2], b[..., 2:]) - inner
    return inner / union.clamp(min=1e-9) - (hull - union) / hull
