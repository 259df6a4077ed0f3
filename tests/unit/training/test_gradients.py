from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from training import gradients
from training.gradients import NONFINITE_LIMIT, remove_nonfinite

NAN, INF = float("nan"), float("inf")


def make_parameters(gradients: list[torch.Tensor]) -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters


both_ways = pytest.mark.parametrize("clean_up", [remove_nonfinite, gradients._remove_nonfinite_unread])
"""On a CPU, and as on a GPU."""


@both_ways
def test_values_that_replace_nonfinite_ones(clean_up: Callable[..., int | torch.Tensor]) -> None:
    channels_last = torch.full([2, 3, 4, 5], NAN).contiguous(memory_format=torch.channels_last)
    channels_last[1, 2, 3, 4] = -INF
    values = [[1.0, NAN, -2.0], [[INF], [-INF]], 3e38, [], [1.0]]
    parameters = make_parameters([*map(torch.tensor, values), channels_last])
    assert clean_up(parameters) == 3 + 120
    cleaned = [parameter.grad for parameter in parameters]
    assert [gradient.tolist() for gradient in cleaned[:2]] == [[1, 0, -2], [[1e5], [-1e5]]]
    assert cleaned[2].item() == pytest.approx(3e38)
    assert (cleaned[5].sum(), cleaned[5][1, 2, 3, 4]) == (-1e5, -1e5)
    assert [gradient.stride() for gradient in cleaned] == [parameter.stride() for parameter in parameters]
    assert NONFINITE_LIMIT == 1e5


@both_ways
@pytest.mark.parametrize("gradients", [[torch.ones(3)], [torch.full([4], 3e38)]], ids=["usual", "huge"])
def test_finite_gradients_stay(gradients: list[torch.Tensor], clean_up: Callable[..., int | torch.Tensor]) -> None:
    """Also those whose norm overflows."""
    parameters = make_parameters(gradients)
    assert clean_up(parameters) == 0
    assert all(torch.equal(parameter.grad, old) for parameter, old in zip(parameters, gradients, strict=True))


def test_without_gradients_there_is_nothing_to_remove() -> None:
    assert remove_nonfinite([]) == remove_nonfinite([torch.nn.Parameter(torch.zeros(3))]) == 0
