"""Each mend, where what it replaces is missing and where it is not."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.autograd.function import once_differentiable

from msconD import mends
from torch_utils.ops import grid_sample_gradfix


def test_only_what_is_missing_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    table = [
        mends.Mend(lambda: False, lambda: applied.append("there"), "not told"),
        mends.Mend(lambda: True, lambda: applied.append("missing"), "told"),
    ]
    monkeypatch.setattr(mends, "MENDS", table)
    assert mends.apply_mends() == ["told"]
    assert applied == ["missing"]


def test_distutils(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("distutils", "distutils.util"):
        monkeypatch.setitem(sys.modules, name, None)
    assert mends.lacks_distutils()
    mends.provide_distutils()
    assert not mends.lacks_distutils()
    assert importlib.import_module("distutils.util").strtobool("yes") == 1
    assert importlib.import_module("distutils").util.strtobool is mends.strtobool


def test_strtobool() -> None:
    assert [mends.strtobool(text) for text in ("Yes", "1", "on", "NO", "false", "0")] == [1, 1, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="must be yes or no, got 'maybe'"):
        mends.strtobool("maybe")


class OldSampler(torch.utils.data.Sampler[int]):
    def __init__(self, dataset: list[int]) -> None:
        super().__init__(dataset)  # type: ignore[call-arg]


def test_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data.Sampler, "__init__", object.__init__)
    with pytest.raises(TypeError):
        OldSampler([1])
    assert mends.sampler_takes_no_argument()
    mends.let_sampler_take_an_argument()
    assert not mends.sampler_takes_no_argument()
    OldSampler([1])


def sample(input: torch.Tensor, grid: torch.Tensor, **kwargs: object) -> torch.Tensor:
    return native_grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


native_grid_sample = torch.nn.functional.grid_sample


class SampleOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, grid):
        ctx.save_for_backward(input, grid)
        return sample(input, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        with torch.enable_grad():
            input, grid = (x.detach().requires_grad_() for x in ctx.saved_tensors)
            return torch.autograd.grad(sample(input, grid), (input, grid), grad_output)


def sample_once(input: torch.Tensor, grid: torch.Tensor, **kwargs: object) -> torch.Tensor:
    return SampleOnce.apply(input, grid)


def test_grid_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "grid_sample", sample_once)
    monkeypatch.setattr(grid_sample_gradfix, "grid_sample", sample_once)
    img = torch.randn([1, 1, 3, 3], dtype=torch.float64, requires_grad=True)
    grid = torch.rand([1, 2, 2, 2], dtype=torch.float64) * 2 - 1
    assert mends.grid_sample_has_no_second_derivative()
    mends.supply_grid_sample()
    assert torch.equal(grid_sample_gradfix.grid_sample(img, grid), sample(img, grid))
    assert torch.autograd.gradgradcheck(lambda img: grid_sample_gradfix.grid_sample(img, grid), img)


def test_a_second_derivative_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "grid_sample", lambda img, grid, **kwargs: img * grid.sum())
    assert not mends.grid_sample_has_no_second_derivative()


def test_sqrtm(monkeypatch: pytest.MonkeyPatch) -> None:
    square = np.array([[4.0, 0], [0, 9]])
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda A: np.sqrt(A) * 1.1)
    assert mends.sqrtm_takes_no_disp()
    mends.let_sqrtm_take_disp()
    assert not mends.sqrtm_takes_no_disp()
    root, error = scipy.linalg.sqrtm(square, disp=False)
    np.testing.assert_allclose(root, [[2.2, 0], [0, 3.3]])
    np.testing.assert_allclose(error, 0.21)
    np.testing.assert_array_equal(scipy.linalg.sqrtm(square), root)
