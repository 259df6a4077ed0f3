from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from tests.helpers import LAYOUTS, assert_close, in_layout
from torch_utils.ops import grid_sample_gradfix
from torch_utils.ops.grid_sample_gradfix import grid_sample

SHAPES = [(2, 3, 5, 4), (1, 1, 1, 1), (3, 2, 1, 7), (0, 3, 4, 4), (2, 0, 3, 3)]


def make_grid(num: int, height: int = 3, width: int = 6) -> torch.Tensor:
    """Positions inside, at the edges and outside."""
    return torch.rand(num, height, width, 2, dtype=torch.float64) * 3 - 1.5


def naive(image: torch.Tensor, grid: torch.Tensor) -> np.ndarray:
    """Weighted mean of the pixels whose centers are less than a pixel away; outside lies black."""
    num, channels, height, width = image.shape
    pixels, positions = image.double().numpy(), grid.double().numpy()
    y = np.zeros([num, channels, *grid.shape[1:3]])
    for n, i, j in product(range(num), *map(range, grid.shape[1:3])):
        column = (positions[n, i, j, 0] + 1) / 2 * width - 0.5
        row = (positions[n, i, j, 1] + 1) / 2 * height - 0.5
        for h, w in product(range(height), range(width)):
            y[n, :, i, j] += pixels[n, :, h, w] * max(1 - abs(row - h), 0) * max(1 - abs(column - w), 0)
    return y


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_definition(shape: tuple[int, ...], layout: str) -> None:
    image, grid = torch.randn(shape, dtype=torch.float64), make_grid(shape[0])
    assert_close(grid_sample(in_layout(image, layout), grid), naive(image, grid), rel=1e-12)


def test_the_identity_and_a_shift_by_one_pixel() -> None:
    image = torch.randn(2, 3, 4, 8)
    identity = torch.eye(2, 3).expand(2, 2, 3)
    grid = functional.affine_grid(identity, [2, 3, 4, 8], align_corners=False)
    assert_close(grid_sample(image, grid), image)
    shifted = grid_sample(image, grid + torch.tensor([2 / 8, 0]))
    assert_close(shifted, functional.pad(image, [0, 1])[..., 1:])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_both_derivatives(shape: tuple[int, ...], layout: str) -> None:
    grid = make_grid(shape[0])

    def fn(image: torch.Tensor) -> torch.Tensor:
        return in_layout(grid_sample(in_layout(image, layout), grid), layout)

    image = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert gradcheck(fn, image)
    assert gradgradcheck(fn, image)


def pytorch(image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_orders_of_derivatives_are_pytorchs(shape: tuple[int, ...]) -> None:
    image, grid = torch.randn(shape, dtype=torch.float64, requires_grad=True), make_grid(shape[0])
    orders = []
    for function in (grid_sample, pytorch):
        y = function(image, grid)
        (first,) = torch.autograd.grad(y.pow(3).sum(), image, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), image)
        orders.append([y, first, second])
    for ours, theirs in zip(*orders, strict=True):
        assert_close(ours, theirs, rel=1e-12)


def test_the_grid_is_constant() -> None:
    image, grid = torch.randn(1, 1, 3, 3, requires_grad=True), torch.zeros(1, 2, 2, 2, requires_grad=True)
    assert not grid_sample(image.detach(), grid).requires_grad
    grid_sample(image, grid).sum().backward()
    assert grid.grad is None
    assert image.grad is not None


def test_disabled_it_is_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_sample_gradfix, "enabled", False)
    y = grid_sample(torch.randn(1, 1, 3, 3, requires_grad=True), torch.zeros(1, 2, 2, 2))
    assert y.grad_fn.name() == "GridSampler2DBackward0"


@pytest.mark.parametrize(
    ("image", "grid", "message"),
    [
        (torch.zeros(3, 4, 4), make_grid(3).float(), r"needs input .* and grid .*, got \[3, 4, 4\] and \[3, 3, 6, 2\]"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 6, 3), r"needs input .*, got \[2, 3, 4, 4\] and \[2, 3, 6, 3\]"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 6, 2), r"needs input .*, got \[2, 3, 4, 4\] and \[1, 3, 6, 2\]"),
        (torch.zeros(2, 3, 0, 4), torch.zeros(2, 3, 6, 2), r"input must have pixels, got \[2, 3, 0, 4\]"),
        (torch.zeros(1, 3, 4, 4), make_grid(1), "input and grid must have one .* dtype, got torch.float32 and .*64"),
        (torch.zeros(1, 3, 4, 4).int(), make_grid(1).int(), "input and grid must have one floating-point .*int32"),
    ],
)
def test_bad_input_is_named(image: Any, grid: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^grid_sample: {message}$"):
        grid_sample(image, grid)
