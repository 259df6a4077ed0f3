"""Views: tracked centers, distances and their known statistics, and what a sampler makes of its settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from msconD import views
from msconD.settings import LossSettings

AREA = (0.2, 1.0)
FLIP = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])


def ramp_images(num: int, size: int) -> torch.Tensor:
    """Images whose two channels hold the x and y of each pixel."""
    ticks = (torch.arange(size) * 2 + 1) / size - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x, y]).repeat(num, 1, 1, 1)


def positives(theta1: torch.Tensor, theta2: torch.Tensor, size: int, within: float = 0.7) -> torch.Tensor:
    return views.cell_distances(theta1, theta2, size) < within


@pytest.mark.parametrize("size", [8, 16])
def test_centers_are_where_the_view_shows_them(size: int) -> None:
    torch.manual_seed(0)
    size_px = 256
    # Crops that stay a pixel inside: at the very border the ramp is clamped.
    theta = torch.cat([views.sample_thetas(20, AREA) * 0.99, FLIP * 0.99])
    view = views.apply_thetas(ramp_images(len(theta), size_px), theta)
    seen = F.adaptive_avg_pool2d(view, size).flatten(2).mT
    error_px = (seen - views.cell_centers(theta, size)).abs().max() * size_px / 2
    assert error_px < 0.01
    assert (theta[:, 0, 0] < 0).any()


def test_crops_stay_inside_and_keep_their_area() -> None:
    torch.manual_seed(1)
    theta = views.sample_thetas(5000, (0.3, 0.6))
    extent, offset = theta[:, :, :2].abs().sum(2), theta[:, :, 2].abs()
    assert (extent + offset <= 1 + 1e-6).all()
    part = extent.prod(1)
    assert part.max() <= 0.6 + 1e-6
    assert part.min() >= 0.3 - 1e-6
    aspect = extent[:, 0] / extent[:, 1]
    assert aspect.min() >= 3 / 4 - 1e-5
    assert aspect.max() <= 4 / 3 + 1e-5
    assert abs((theta[:, 0, 0] < 0).float().mean() - 0.5) < 0.03


def test_views_show_nothing_but_the_image() -> None:
    theta = views.sample_thetas(50, (0.05, 1.0))
    theta[:, :, 2] = (1 - theta[:, :, :2].abs().sum(2)) * theta[:, :, 2].sign()  # in a corner
    assert torch.allclose(views.apply_thetas(torch.ones(50, 1, 16, 16), theta), torch.ones(()))


def test_same_seed_same_views() -> None:
    torch.manual_seed(2)
    first = views.sample_thetas(3, AREA)
    torch.manual_seed(2)
    assert torch.equal(views.sample_thetas(3, AREA), first)


def test_identity_view_is_the_image() -> None:
    img = torch.randn(2, 3, 16, 16)
    assert torch.allclose(views.apply_thetas(img, views.identity_thetas(2)), img, atol=1e-5)


@pytest.mark.parametrize(("size", "neighborly"), [(8, 4.5), (16, 4.75)])
def test_same_geometry_matches_each_cell_with_itself(size: int, neighborly: float) -> None:
    theta = views.identity_thetas(1)
    assert torch.equal(positives(theta, theta, size)[0], torch.eye(size * size, dtype=torch.bool))
    assert positives(theta, theta, size, within=0.71)[0].sum(1).float().mean() == neighborly


def test_flipping_reverses_x_only() -> None:
    matches = positives(FLIP, views.identity_thetas(1), 4)[0].reshape(4, 4, 4, 4)
    rows, columns = torch.eye(4, dtype=torch.bool), torch.eye(4, dtype=torch.bool).flip(1)
    assert torch.equal(matches, rows[:, None, :, None] & columns[None, :, None, :])


def test_the_larger_cell_sets_the_unit() -> None:
    half = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    full = views.identity_thetas(1)
    center_of_half, center_of_full = torch.tensor([-0.25, -0.25]), torch.tensor([-0.5, -0.5])
    expected = (center_of_half - center_of_full).norm() / (1.0 * 2**0.5)
    assert torch.isclose(views.cell_distances(half, full, 2)[0, 0, 0], expected)


def test_swapping_the_views_transposes_the_distances() -> None:
    torch.manual_seed(3)
    theta1, theta2 = views.sample_thetas(4, AREA), views.sample_thetas(4, AREA)
    forward, reverse = views.cell_distances(theta1, theta2, 8), views.cell_distances(theta2, theta1, 8)
    assert torch.allclose(forward, reverse.mT, atol=1e-6)


def test_disjoint_crops_have_no_positive() -> None:
    left = torch.tensor([[[0.3, 0.0, -0.7], [0.0, 0.3, 0.0]]])
    right = torch.tensor([[[0.3, 0.0, 0.7], [0.0, 0.3, 0.0]]])
    assert not positives(left, right, 16).any()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "valid", "num"), [(16, 0.778, 3.48), (8, 0.824, 3.24)])
def test_overlap_of_random_views(size: int, valid: float, num: float) -> None:
    torch.manual_seed(4)
    num_pairs, chunk = 4000, 100
    counts = []
    for _ in range(num_pairs // chunk):
        theta1, theta2 = views.sample_thetas(chunk, AREA), views.sample_thetas(chunk, AREA)
        counts.append(positives(theta1, theta2, size).sum(2))
    count = torch.cat(counts).float()
    assert abs((count > 0).float().mean() - valid) < 0.01
    assert abs(count[count > 0].mean() - num) < 0.05


def sampler(**changes: Any) -> views.ViewSampler:
    settings = LossSettings(**{f"con_{name}": value for name, value in changes.items()})
    return views.ViewSampler(settings, torch.device("cpu"))


def test_sampled_views_differ_from_each_other_and_from_the_image() -> None:
    img = torch.rand(2, 3, 16, 16) * 2 - 1
    sample = sampler()
    seen = [sample(img, sample.draw_thetas(img)) for _ in range(2)]
    assert [view.shape for view in seen] == [img.shape] * 2
    assert not torch.equal(seen[0], seen[1])
    assert not any(torch.allclose(view, img, atol=0.1) for view in seen)


def test_views_may_be_the_images_themselves() -> None:
    img = torch.rand(2, 3, 16, 16)
    sample = sampler(geom="none", color_p=0)
    assert torch.allclose(sample(img, sample.draw_thetas(img)), img, atol=1e-5)


@pytest.mark.parametrize("color_p", [0.0, 0.3, 1.0])
def test_colors_change_with_the_given_probability(color_p: float) -> None:
    torch.manual_seed(5)
    img = torch.rand(400, 3, 4, 4)
    sample = sampler(geom="none", color_p=color_p)
    is_changed = (sample(img, sample.draw_thetas(img)) - img).abs().amax(dim=[1, 2, 3]) > 1e-3
    expected = 1 - (1 - color_p) ** 4  # four transforms
    assert abs(is_changed.float().mean() - expected) < 0.1


def test_images_keep_their_gradient() -> None:
    img = torch.rand(2, 3, 16, 16, requires_grad=True)
    sample = sampler()
    sample(img, sample.draw_thetas(img)).square().sum().backward()
    assert img.grad.abs().max() > 0
