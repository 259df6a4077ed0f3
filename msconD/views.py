"""Random views of images, and the distances between the cells of their feature maps.

A view is a random crop, flipped at random, resized to the size of the image and changed in color. Its geometry is an
affine map theta from view to image coordinates, both in [-1, 1] with y pointing down and pixels being areas
(``align_corners=False``). Two thetas determine which cells of two feature maps show the same place, measured as by Xie
et al., "Propagate Yourself" (arXiv:2011.10043, section 3.1): the distance of the cell centers over the diagonal of the
larger cell.

Crops lie inside the image and only magnify, so that nothing outside needs a mask and nothing needs anti-aliasing.

Shapes: N images, C channels, H height and width of a square feature map, P = H * H cells in row-major order.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from msconD.settings import LossSettings
from training.augment import AugmentPipe

ASPECT_RANGE = (3 / 4, 4 / 3)
"""Width over height of a crop before it is limited to the image; torchvision's and PixPro's range."""

COLOR_KWARGS: dict[str, Any] = {
    "brightness": 1,
    "contrast": 1,
    "hue": 1,
    "hue_max": 0.2,
    "saturation": 1,
    "saturation_std": 0.5,
}
"""Color transforms of a view; hue_max is a tenth of a turn, as in the color jitter of contrastive methods."""


class ViewSampler:
    """Draws views of images.

    They do not depend on the augmentation of D's other inputs, and so keep their strength while that is weak or off.

    Args:
        settings: Settings of the loss, of which the contrastive ones are used.
        device: Where the images are.
    """

    def __init__(self, settings: LossSettings, device: torch.device) -> None:
        self.settings = settings
        self.recolor: torch.nn.Module | None = None
        if settings.con_color_p > 0:
            self.recolor = AugmentPipe(**COLOR_KWARGS).requires_grad_(False).to(device)
            self.recolor.p.fill_(settings.con_color_p)

    def draw_thetas(self, img: torch.Tensor) -> torch.Tensor:
        """Draw the geometry of a view of each image [N, C, height, width], [N, 2, 3]."""
        if self.settings.con_geom == "none":
            return identity_thetas(len(img), img.device)
        smallest, largest = self.settings.con_crop
        return sample_thetas(len(img), (smallest, largest), img.device)

    def __call__(self, img: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """Return the view of each image [N, C, height, width] through its theta, with random changes of color."""
        view = apply_thetas(img, theta)
        return view if self.recolor is None else self.recolor(view)


def sample_thetas(num: int, area: tuple[float, float], device: torch.device | str = "cpu") -> torch.Tensor:
    """Draw the geometry of ``num`` views.

    Args:
        num: Number of views, N.
        area: Smallest and largest fraction of the image area that a crop covers, within (0, 1].
        device: Where the numbers are drawn.

    Returns:
        float32 [N, 2, 3], maps (x, y, 1) of the view to (x, y) of the image. Half of the views are flipped.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(num, device=device) * (high - low) + low

    log_aspect = torch.tensor(ASPECT_RANGE).log().tolist()
    fraction, aspect = uniform(*area), uniform(*log_aspect).exp()
    width = (fraction * aspect).sqrt().clamp(max=1)
    height = (fraction / aspect).sqrt().clamp(max=1)
    x = uniform(-1, 1) * (1 - width)
    y = uniform(-1, 1) * (1 - height)
    sign = (uniform(-1, 1) < 0).float() * 2 - 1

    zero = torch.zeros_like(x)
    return torch.stack([sign * width, zero, x, zero, height, y], dim=1).unflatten(1, (2, 3))  # [N, 2, 3]


def identity_thetas(num: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the geometry of ``num`` views that show the whole image as it is, float32 [N, 2, 3]."""
    return torch.eye(2, 3, device=device).repeat(num, 1, 1)


def apply_thetas(img: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Resample each image through its theta, bilinearly; differentiable once.

    Args:
        img: float32 [N, C, height, width].
        theta: float32 [N, 2, 3].

    Returns:
        float32 [N, C, height, width].
    """
    grid = F.affine_grid(theta, list(img.shape), align_corners=False)
    return F.grid_sample(img, grid, mode="bilinear", padding_mode="border", align_corners=False)


def cell_centers(theta: torch.Tensor, size: int) -> torch.Tensor:
    """Locate the cells of the views' feature maps in the image: [N, P, 2] (x, y) for maps of ``size`` x ``size``."""
    ticks = (torch.arange(size, device=theta.device, dtype=theta.dtype) * 2 + 1) / size - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    cells = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)  # [P, 3]
    return cells @ theta.mT  # [N, P, 2]


def cell_diagonals(theta: torch.Tensor, size: int) -> torch.Tensor:
    """Measure the diagonal of one cell of each view in the image, [N]."""
    return theta[:, :, :2].flatten(1).norm(dim=1) * (2 / size)


def cell_distances(theta1: torch.Tensor, theta2: torch.Tensor, size: int) -> torch.Tensor:
    """Measure the distance in the image of cell i of view 1 to cell j of view 2, in diagonals of the larger cell.

    Args:
        theta1: Geometry of the first views, [N, 2, 3], without rotation.
        theta2: Geometry of the second views of the same images, [N, 2, 3], without rotation.
        size: H of the feature maps.

    Returns:
        [N, P, P]; where both views have the same square geometry, neighbors are sqrt(1/2) apart.
    """
    centers1, centers2 = (cell_centers(theta, size).unflatten(1, (size, size)) for theta in (theta1, theta2))
    diagonal = torch.maximum(cell_diagonals(theta1, size), cell_diagonals(theta2, size))[:, None, None]
    # Without rotation x depends on the column of a cell only, and y on its row.
    x = (centers1[:, 0, :, None, 0] - centers2[:, 0, None, :, 0]) / diagonal  # [N, column i, column j]
    y = (centers1[:, :, 0, None, 1] - centers2[:, None, :, 0, 1]) / diagonal  # [N, row i, row j]
    squared = y.square()[:, :, None, :, None] + x.square()[:, None, :, None, :]  # [N, row i, column i, row j, column j]
    return squared.sqrt_().flatten(3, 4).flatten(1, 2)
