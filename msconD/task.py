"""The contrastive task: two views of each image, compared at every scale.

Views are independent of the augmentation of D's other inputs: they keep their strength while that is weak or off, and
their geometry is known. Colours come from `training.augment.AugmentPipe`.

Shapes: N images, C channels, h height of a map, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from msconD import contrastive, views
from msconD.contrastive import Gather, Stats
from msconD.gather import gather_rows
from msconD.settings import LossSettings
from training.augment import AugmentPipe

COLOR_KWARGS: dict[str, Any] = {
    "brightness": 1,
    "contrast": 1,
    "hue": 1,
    "hue_max": 0.2,
    "saturation": 1,
    "saturation_std": 0.5,
}
"""Photometric part of a view; hue_max is a tenth of a turn, as in the colour jitter of contrastive methods."""

Describe = Callable[[torch.Tensor], Mapping[int, torch.Tensor]]
"""Images [N, C, H, W] -> projections by height: [N, E] at height 1, [N, E, h, h] above."""


class ContrastiveTask:
    """Draws views, has them described and contrasts the descriptions.

    Args:
        settings: Its contrastive ones are used.
        device: Where the images are.
    """

    def __init__(self, settings: LossSettings, device: torch.device) -> None:
        self.settings = settings
        self.recolor: torch.nn.Module | None = None
        if settings.con_color_p > 0:
            self.recolor = AugmentPipe(**COLOR_KWARGS).requires_grad_(False).to(device)
            self.recolor.p.copy_(torch.tensor(settings.con_color_p))

    def __call__(self, describe: Describe, img: torch.Tensor) -> tuple[dict[int, torch.Tensor], Stats]:
        """Contrast two new views of each image.

        Args:
            describe: Gives the projections of a batch of views.
            img: float32 [N, C, H, W] in [-1, 1].

        Returns:
            Losses by height, scalars, and statistics by name and height.
        """
        theta1, theta2 = self._sample_thetas(img), self._sample_thetas(img)
        # A pass each: in a joint batch the minibatch standard deviation would group the two views of an image.
        proj1, proj2 = (describe(self._look(img, theta)) for theta in (theta1, theta2))
        losses: dict[int, torch.Tensor] = {}
        stats: Stats = {}
        for h in proj1:
            gather = self._gather_at(h)
            if h == 1:
                losses[h], found = contrastive.instance_nt_xent(proj1[h], proj2[h], self.settings.con_temp, gather)
            else:
                distance = views.cell_distances(theta1, theta2, h)
                losses[h], found = contrastive.pixel_info_nce(proj1[h], proj2[h], distance, self.settings, gather)
            stats |= {f"{name}_h{h}": value for name, value in found.items()}
        return losses, stats

    def _sample_thetas(self, img: torch.Tensor) -> torch.Tensor:
        if self.settings.con_geom == "none":
            return views.identity_thetas(len(img), img.device)
        smallest, largest = self.settings.con_crop
        return views.sample_thetas(len(img), (smallest, largest), img.device)

    def _look(self, img: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        view = views.apply_thetas(img, theta)
        return view if self.recolor is None else self.recolor(view)

    def _gather_at(self, h: int) -> Gather | None:
        is_distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        wanted = self.settings.con_gather == "all" or (self.settings.con_gather == "h1" and h == 1)
        return gather_rows if is_distributed and wanted else None
