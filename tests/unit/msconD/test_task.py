"""The contrastive task as a whole: what a perfect describer scores, and what its views look like."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from msconD.settings import LossSettings
from msconD.task import ContrastiveTask


def task(**changes: Any) -> ContrastiveTask:
    settings = LossSettings(**{f"con_{name}": value for name, value in changes.items()})
    return ContrastiveTask(settings, torch.device("cpu"))


def images_of_places(num: int, size: int = 64) -> torch.Tensor:
    """Images whose pixels hold a code of their place: near places have similar codes."""
    ticks = (torch.arange(size) * 2 + 1) / size - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x.mul(1.5).cos(), x.mul(1.5).sin(), y.mul(1.5).cos(), y.mul(1.5).sin()]).repeat(num, 1, 1, 1)


def test_who_knows_the_places_recognises_them() -> None:
    losses, stats = task(color_p=0, neg="image")(lambda view: {8: F.adaptive_avg_pool2d(view, 8)}, images_of_places(20))
    assert set(losses) == {8}
    assert stats["top1_h8"].mean() > 0.95
    assert stats["pos_sim_h8"].mean() > 0.98


def test_views_are_drawn_once_per_call_and_look() -> None:
    seen = []

    def describe(view: torch.Tensor) -> dict[int, torch.Tensor]:
        seen.append(view)
        return {1: view.flatten(1), 4: F.adaptive_avg_pool2d(view, 4)}

    img = torch.rand(2, 3, 16, 16) * 2 - 1
    losses, _ = task()(describe, img)
    assert list(losses) == [1, 4]
    assert [view.shape for view in seen] == [img.shape] * 2
    assert not torch.equal(seen[0], seen[1])


def test_views_may_be_the_images_themselves() -> None:
    seen = []
    img = torch.rand(2, 3, 16, 16)
    task(geom="none", color_p=0)(lambda view: seen.append(view) or {1: view.flatten(1)}, img)
    assert all(torch.allclose(view, img, atol=1e-5) for view in seen)


def test_colours_change_as_often_as_asked() -> None:
    img = torch.rand(200, 3, 4, 4)
    for color_p in (0.0, 0.3, 1.0):
        seen: list[torch.Tensor] = []
        task(geom="none", color_p=color_p)(lambda view, seen=seen: seen.append(view) or {1: view.flatten(1)}, img)
        is_changed = [((view - img).abs().amax(dim=[1, 2, 3]) > 1e-3).float().mean() for view in seen]
        expected = 1 - (1 - color_p) ** 4  # four transforms
        assert abs(sum(is_changed) / 2 - expected) < 0.1


def test_images_keep_their_gradient() -> None:
    img = torch.rand(2, 3, 16, 16, requires_grad=True)
    losses, _ = task()(lambda view: {1: view.flatten(1)}, img)
    losses[1].backward()
    assert img.grad.abs().max() > 0
