from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers import LAYOUTS, in_layout
from torch_utils.ops.fma import fma

SHAPES = [
    ([2, 3, 4, 5], [2, 3, 1, 1], [2, 1, 4, 5]),  # features, demodulation, noise
    ([3], [2, 1], []),
    ([1], [1], [1]),
    ([0, 3], [1, 3], [3]),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_is_the_product_plus_the_third(shapes: tuple[list[int], ...]) -> None:
    a, b, c = (torch.randn(shape) for shape in shapes)
    torch.testing.assert_close(fma(a, b, c), a * b + c)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shapes", SHAPES[:3], ids=str)
def test_both_derivatives(shapes: tuple[list[int], ...], layout: str) -> None:
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def fn(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return fma(in_layout(a, layout) if a.ndim == 4 else a, b, c)

    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert fma(*torch.ones(3, 2, dtype=dtype)).dtype == dtype


def test_other_faults_are_not_blamed_on_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_tensors: torch.Tensor) -> None:
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(torch, "addcmul", fail)
    with pytest.raises(RuntimeError, match=r"^the device"):
        fma(*torch.ones(3, 2))


def test_shapes_that_do_not_broadcast_are_named() -> None:
    with pytest.raises(ValueError, match=r"^fma: shapes of a, b and c must broadcast, got \[2, 3\], \[4\], \[\]$"):
        fma(torch.zeros(2, 3), torch.zeros(4), torch.zeros([]))
