"""NanoDet-g as an object detector of the 80 categories of COCO."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from metrics.nanodet import NanoDet
from metrics.objects.boxes import suppress_duplicates
from metrics.objects.categories import COCO
from metrics.objects.protocol import Detections

INPUT_PX = 416
MIN_SCORE = 0.05
"""Boxes below this are not reported."""

MAX_IOU = 0.6
MAX_BOXES = 300
_BATCH = 4
"""Images at once on a CPU: the maps of more leave the cache."""


class NanoDetDetector:
    """`NanoDet` as an object detector (`metrics.objects.protocol.ObjectDetector`).

    Args:
        net: The network.
        sha256: Checksum of its weights.
    """

    name = "nanodet"
    categories = COCO
    min_side_px = 20.0

    def __init__(self, net: NanoDet, sha256: str = "") -> None:
        self.net = net
        self.sha256 = sha256

    @torch.no_grad()
    def detect(self, img: torch.Tensor) -> list[Detections]:
        """Find objects; see `ObjectDetector`. Images of any size are stretched to 416 px."""
        height, width = img.shape[2:]
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        found = []
        for part in img.split(_BATCH if img.device.type == "cpu" else len(img)):
            x = F.interpolate(part.to(torch.float32), (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)
            scores, boxes = (rows.cpu() for rows in self.net(x))
            boxes = torch.minimum((boxes * limit / INPUT_PX).clamp(min=0), limit)
            found += [best_boxes(*one) for one in zip(scores, boxes, strict=True)]
        return found


def best_boxes(scores: torch.Tensor, boxes: torch.Tensor) -> Detections:
    """Choose boxes of one image: scores [cells, categories], boxes [cells, 4]."""
    cells, labels = (scores > MIN_SCORE).nonzero(as_tuple=True)
    found = Detections(boxes[cells], scores[cells, labels], labels)
    return found.select(suppress_duplicates(*found, max_iou=MAX_IOU, max_boxes=MAX_BOXES))
