from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.layout import dense, is_channels_last, scale_into, scaled_copy


def test_dense_takes_the_format_of_the_other() -> None:
    x, last = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert (is_channels_last(x), is_channels_last(last), is_channels_last(x[:, :1])) == (False, True, False)
    assert is_channels_last(dense(x, like=last))
    assert dense(last, like=x).is_contiguous()
    assert dense(x, like=x) is x


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_scaling_into_another_layout(dtype: torch.dtype, channels_last: bool, transposed: bool) -> None:
    x, factor = torch.randn(4, 3, 2, 2), torch.rand(4, 1, 1, 1)
    y = scale_into(x, factor, dtype, channels_last, transposed)
    assert torch.equal(y, (x * factor).to(dtype))
    given = y.transpose(0, 1) if transposed else y
    assert given.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_scaled_copies() -> None:
    weight, like = torch.randn(4, 3, 2, 2, requires_grad=True), torch.zeros(1, 3, 5, 5, dtype=torch.float16)
    like = like.contiguous(memory_format=torch.channels_last)
    y = scaled_copy(weight, 0.5, like)
    assert y.dtype == torch.float16
    assert is_channels_last(y)
    y.sum().backward()
    assert weight.grad.dtype == torch.float32
    assert weight.grad.is_contiguous()
    assert (weight.grad == 0.5).all()
    weight = torch.randn(2, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    like = like.double()
    assert gradcheck(lambda weight: scaled_copy(weight, 0.3, like), weight)
    assert gradgradcheck(lambda weight: scaled_copy(weight, 0.3, like), weight)
