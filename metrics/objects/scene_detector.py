"""A small detector for the embedded street scenes, whose weights are part of the repository.

A U-net in the manner of CenterNet ("Objects as Points", arXiv:1904.07850): images of 64 x 64 px in, and for each of
32 x 32 cells a score and a box per category out. A peak among the scores of a category is an object. How the weights
were trained, and how good they are, is said in metrics/objects/README.md.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F

from dnnlib.errors import UserError
from metrics.objects.boxes import suppress_duplicates
from metrics.objects.protocol import Detections

CATEGORIES = ("building", "bus", "car", "house", "person", "street light", "traffic light", "tree")

WEIGHTS = Path(__file__).with_name("scenes.safetensors")

INPUT_PX = 64
CELL_PX = 2
"""Pixels of the input per cell of the output, in each direction."""

MIN_SCORE = 0.05
"""Peaks below this are not reported."""

_MAX_IOU = 0.7
"""Boxes of a category that overlap more are one object: buildings stand behind each other, other things rarely do."""
_MAX_BOXES = 200

_WIDTHS = (32, 64, 96, 96)
"""Channels at 32, 16, 8 and 4 cells."""

_WIDTH_UP = 48
_MAX_LOG_SIZE = 4.0
"""Boxes are at most exp(4) = 55 cells wide, a little more than the image."""


class SceneNet(torch.nn.Module):
    """Images -> scores and boxes of all cells."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(_conv(5, 32, stride=2), _conv(32, _WIDTHS[0]))
        self.down = torch.nn.ModuleList(
            torch.nn.Sequential(_conv(few, many, stride=2), _conv(many, many))
            for few, many in itertools.pairwise(_WIDTHS)
        )
        self.sideways = torch.nn.ModuleList(torch.nn.Conv2d(width, _WIDTH_UP, 1) for width in _WIDTHS)
        self.up = torch.nn.ModuleList(_conv(_WIDTH_UP, _WIDTH_UP) for _ in _WIDTHS[1:])
        self.score = torch.nn.Conv2d(_WIDTH_UP, len(CATEGORIES), 1)
        self.box = torch.nn.Conv2d(_WIDTH_UP, 4 * len(CATEGORIES), 1)
        assert self.score.bias is not None
        torch.nn.init.constant_(self.score.bias, -4.0)  # few cells hold an object

    def forward(self, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits [N, C, 32, 32] and boxes [N, C, 4, 32, 32] (x0, y0, x1, y1 in pixels of the input).

        Each of the C categories has boxes of its own, as a tree may stand in the middle of a house.

        Args:
            img: RGB [N, 3, 64, 64] in 0..255, any dtype.
        """
        x = img.to(torch.float32) / 127.5 - 1
        x = self.stem(torch.cat([x, _coordinates(x)], dim=1))
        levels = [x]
        for block in self.down:
            levels.append(block(levels[-1]))
        x = self.sideways[-1](levels[-1])
        for i in reversed(range(len(self.up))):
            x = self.up[i](F.interpolate(x, scale_factor=2.0) + self.sideways[i](levels[i]))
        return self.score(x), _to_boxes(self.box(x).unflatten(1, (len(CATEGORIES), 4)))


def _conv(num_in: int, num_out: int, stride: int = 1) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False),
        torch.nn.BatchNorm2d(num_out),
        torch.nn.ReLU(inplace=True),
    )


def _coordinates(x: torch.Tensor) -> torch.Tensor:
    """Two channels with the column and the row in -1..1: where in the image something is says much about its size."""
    side = torch.linspace(-1, 1, x.shape[-1], device=x.device)
    grid = torch.stack([side.expand(x.shape[-1], -1), side[:, None].expand(-1, x.shape[-1])])
    return grid.expand(len(x), -1, -1, -1)


def _to_boxes(x: torch.Tensor) -> torch.Tensor:
    """Center relative to that of the cell, and log of width and height, all in cells -> corners in pixels.

    Both have the shape [N, C, 4, rows, columns].
    """
    cells = torch.arange(x.shape[-1], device=x.device) + 0.5
    centers = torch.stack([cells.expand(len(cells), -1), cells[:, None].expand(-1, len(cells))]) + x[:, :, :2]
    half = x[:, :, 2:].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp() / 2
    return torch.cat([centers - half, centers + half], dim=2) * CELL_PX


class SceneDetector:
    """`SceneNet` as an object detector (`metrics.objects.protocol.ObjectDetector`).

    Args:
        net: The network, in eval mode.
        sha256: Checksum of its weights.
    """

    name = "scenes"
    categories = CATEGORIES
    min_side_px = 0.0

    def __init__(self, net: SceneNet, sha256: str = "") -> None:
        self.net: SceneNet = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sha256 = sha256

    @torch.no_grad()
    def detect(self, img: torch.Tensor) -> list[Detections]:
        """Find objects; see `ObjectDetector`. Images of any size are resized to 64 px."""
        height, width = img.shape[2:]
        x = img.to(self.net.score.weight.device, torch.float32)
        if (height, width) != (INPUT_PX, INPUT_PX):
            x = F.interpolate(x, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)
        logits, boxes = self.net(x.contiguous(memory_format=torch.channels_last))
        scores = logits.sigmoid()
        is_peak = (scores == F.max_pool2d(scores, 3, stride=1, padding=1)) & (scores > MIN_SCORE)
        scale = torch.tensor([width, height, width, height]) / INPUT_PX
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        return [_decode(*one, scale, limit) for one in zip(scores.cpu(), boxes.cpu(), is_peak.cpu(), strict=True)]


def _decode(
    scores: torch.Tensor, boxes: torch.Tensor, is_peak: torch.Tensor, scale: torch.Tensor, limit: torch.Tensor
) -> Detections:
    """Turn the cells of one image into objects."""
    labels, rows, columns = is_peak.nonzero(as_tuple=True)
    found = Detections(
        torch.minimum((boxes[labels, :, rows, columns] * scale).clamp(min=0), limit),
        scores[labels, rows, columns],
        labels,
    )
    return found.select(suppress_duplicates(*found, max_iou=_MAX_IOU, max_boxes=_MAX_BOXES))


def load_scene_net(path: Path) -> SceneNet:
    """Load the weights that `training.data.scenes.train_detector` wrote.

    Raises:
        UserError: The file is missing or damaged, or belongs to another version.
    """
    net = SceneNet()
    try:
        weights = {name: value.float() for name, value in safetensors.torch.load_file(path).items()}
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except (OSError, RuntimeError, safetensors.SafetensorError) as err:
        raise UserError(f"{path} cannot be loaded as a scene detector: {str(err)[:200]!a}") from err
    # How many batches a normalization has seen is of no use anymore.
    if unexpected or not all(name.endswith(".num_batches_tracked") for name in missing):
        raise UserError(f"{path} holds the weights of another network than this version's scene detector")
    return net.eval().requires_grad_(False)
