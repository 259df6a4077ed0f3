"""DiffAugment (arXiv 2006.10738): the same simple transforms for real and generated images, always.

It imports nothing from this repository but what StyleGAN2-ADA has too, so that snapshots with it open there.
"""

from __future__ import annotations

import math

import torch

from torch_utils import persistence


@persistence.persistent_class
class DiffAugment(torch.nn.Module):
    """Random color, translation and cutout, one draw per image.

    Args:
        diffaug_policy: Comma list of 'color', 'translation', 'cutout', in the order in which they are applied.
        cutout_ratio: Side of the square that is cut out, relative to the image.
    """

    def __init__(self, diffaug_policy: str = "color,translation,cutout", cutout_ratio: float = 0.5) -> None:
        super().__init__()
        self.policy = diffaug_policy.split(",")
        self.cutout_ratio = cutout_ratio
        # The probability of every pipe, which the training loop reports; here it does not matter.
        self.register_buffer("p", torch.ones([]))

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        """Transform images [N, C, H, W] in [-1, 1]; what moves in from outside and what is cut out is 0, grey."""
        transforms = {"color": self._color, "translation": self._translation, "cutout": self._cutout}
        for name in self.policy:
            img = transforms[name](img)
        return img

    def _color(self, img: torch.Tensor) -> torch.Tensor:
        return change_color(img, *(torch.rand([len(img), 1, 1, 1], device=img.device) for _ in range(3)))

    def _translation(self, img: torch.Tensor) -> torch.Tensor:
        return translate(img, *(_draw_shift(img, size) for size in img.shape[2:]))

    def _cutout(self, img: torch.Tensor) -> torch.Tensor:
        sides = [math.floor(self.cutout_ratio * size + 0.5) for size in img.shape[2:]]
        centers = [_draw_center(img, *pair) for pair in zip(img.shape[2:], sides, strict=True)]
        return cut_out(img, centers, sides)


def change_color(
    img: torch.Tensor, brightness: torch.Tensor, saturation: torch.Tensor, contrast: torch.Tensor
) -> torch.Tensor:
    """Shift by brightness - 0.5, scale the colors by 2 saturation and everything by contrast + 0.5.

    Args:
        img: [N, C, H, W].
        brightness: In [0, 1), [N, 1, 1, 1], like the others.
        saturation: Scales the distance of the channels from their mean at each pixel.
        contrast: Scales the distance from the mean of the image.
    """
    img = img + (brightness - 0.5)
    grey = img.mean(dim=1, keepdim=True)
    img = grey + (img - grey) * (2 * saturation)
    mean = img.mean(dim=[1, 2, 3], keepdim=True)
    return mean + (img - mean) * (contrast + 0.5)


def translate(img: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Shift each image by whole pixels, [N] each; pixels from outside are 0."""
    num, _channels, height, width = img.shape
    rows = torch.arange(height, device=img.device) - down[:, None]  # [N, H]: where each pixel comes from
    columns = torch.arange(width, device=img.device) - right[:, None]
    is_inside = _is_within(rows, height)[:, :, None] & _is_within(columns, width)[:, None, :]
    batch = torch.arange(num, device=img.device)[:, None, None]
    source = img[batch, :, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return source.movedim(3, 1) * is_inside[:, None]


def cut_out(img: torch.Tensor, centers: list[torch.Tensor], sides: list[int]) -> torch.Tensor:
    """Set a rectangle to 0, as far as it lies in the image.

    Args:
        img: [N, C, H, W].
        centers: Row and column of its center, [N] each; of an even side it is the pixel after the middle.
        sides: Its height and width in pixels.
    """
    row_inside, column_inside = (
        _is_within(torch.arange(size, device=img.device) - (center - side // 2)[:, None], side)
        for size, center, side in zip(img.shape[2:], centers, sides, strict=True)
    )
    return img * ~(row_inside[:, None, :, None] & column_inside[:, None, None, :])


def _is_within(positions: torch.Tensor, size: int) -> torch.Tensor:
    return (positions >= 0) & (positions < size)


def _draw_shift(img: torch.Tensor, size: int) -> torch.Tensor:
    limit = math.floor(size / 8 + 0.5)
    return torch.randint(-limit, limit + 1, [len(img)], device=img.device)


def _draw_center(img: torch.Tensor, size: int, side: int) -> torch.Tensor:
    # One more choice for even sides, so that both ends are equally likely to lose pixels.
    return torch.randint(0, size + 1 - side % 2, [len(img)], device=img.device)
