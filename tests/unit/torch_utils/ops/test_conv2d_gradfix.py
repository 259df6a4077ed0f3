from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import LAYOUTS, assert_close, in_layout
from torch_utils.ops import conv2d_gradfix
from torch_utils.ops.conv2d_gradfix import conv2d, conv_transpose2d, no_weight_gradients

FLOAT64 = 1e-12

CASES: list[tuple[str, dict[str, Any]]] = [
    ("conv2d", {"padding": 1}),
    ("conv2d", {"stride": 2, "padding": [1, 0]}),
    ("conv2d", {"stride": (3, 2), "padding": (2, 1), "groups": 2}),
    ("conv2d", {"dilation": 2, "padding": 2, "groups": 2}),
    ("conv_transpose2d", {}),
    ("conv_transpose2d", {"stride": 2, "padding": 1, "output_padding": 1}),
    ("conv_transpose2d", {"stride": [2, 3], "padding": [0, 1], "output_padding": (1, 0), "groups": 2}),
    ("conv_transpose2d", {"dilation": (1, 2), "stride": 2}),
]


def make_inputs(kwargs: dict[str, Any], num: int = 2) -> list[torch.Tensor]:
    """Image, weight and bias that suit both directions, float64."""
    groups = kwargs.get("groups", 1)
    shapes = [(num, 4, 5, 6), (4, 4 // groups, 3, 2), (4,)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


class WeightGradients(TorchDispatchMode):
    """Counts backward passes of convolutions, by whether the gradient of the weight is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[bool] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.counts[args[-1][1]] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_three_orders_of_derivatives_are_pytorchs(name: str, kwargs: dict[str, Any], bias: bool) -> None:
    """PyTorch differentiates the same function twice and thrice by formulas of its own."""
    inputs = make_inputs(kwargs)[: 2 + bias]
    num_orders = 2 if "output_padding" in kwargs else 3  # PyTorch 2.13 has no third derivative with output padding
    orders = []
    for function in (getattr(conv2d_gradfix, name), getattr(functional, name)):
        value = function(*inputs, **kwargs)
        results = [value]
        for order in range(num_orders):
            torch.manual_seed(order)
            scalar = sum((each * torch.randn_like(each)).sum() + each.pow(3).sum() for each in results[-len(inputs) :])
            results += torch.autograd.grad(scalar, inputs, create_graph=True)
        orders.append(results)
    for ours, theirs in zip(*orders, strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_both_derivatives(name: str, kwargs: dict[str, Any], layout: str) -> None:
    groups = kwargs.get("groups", 1)
    inputs = [torch.randn(s, dtype=torch.float64) for s in [(1, 2, 3, 4), (2, 2 // groups, 2, 2), (2,)]]

    def fn(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        y = getattr(conv2d_gradfix, name)(in_layout(x, layout), in_layout(w, layout), b, **kwargs)
        return in_layout(y, layout)

    inputs = [each.requires_grad_() for each in inputs]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_an_empty_batch_has_zero_weight_gradients(name: str, kwargs: dict[str, Any]) -> None:
    x, w, b = make_inputs(kwargs, num=0)
    y = getattr(conv2d_gradfix, name)(x, w, b, **kwargs)
    assert y.shape == getattr(functional, name)(x, w, b, **kwargs).shape
    gx, gw = torch.autograd.grad(y.square().sum(), [x, w], create_graph=True)
    (gw.square().sum() + gx.sum()).backward()
    assert not gw.any()
    assert not w.grad.any()


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_inside_the_context_weights_get_no_gradient(name: str, kwargs: dict[str, Any]) -> None:
    x, w, b = make_inputs(kwargs)
    y = getattr(conv2d_gradfix, name)(x, w, b, **kwargs)
    with WeightGradients() as calls, no_weight_gradients():
        y.sum().backward(retain_graph=True)
    assert (w.grad, calls.counts[True]) == (None, 0)
    gx, gb = x.grad.clone(), b.grad.clone()
    with WeightGradients() as calls:
        y.sum().backward()
    assert calls.counts[True] == 1  # the count can see one
    assert w.grad is not None
    assert torch.equal(b.grad, 2 * gb)
    assert torch.equal(x.grad, 2 * gx)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_first_derivatives_are_one_call_unless_they_are_differentiated(name: str, kwargs: dict[str, Any]) -> None:
    inputs = make_inputs(kwargs)
    y, theirs = (getattr(functions, name)(*inputs, **kwargs) for functions in (conv2d_gradfix, functional))
    v = torch.randn_like(y)
    with Operators() as first:
        ours = torch.autograd.grad(y, inputs, v, retain_graph=True)
    assert first.counts == {"convolution_backward": 1}
    for actual, expected in zip(ours, torch.autograd.grad(theirs, inputs, v), strict=True):
        assert torch.equal(actual, expected)
    with Operators() as second:
        torch.autograd.grad(y, inputs, v, create_graph=True)
    assert second.counts == {"convolution": 1, "convolution_backward": 1}


@pytest.mark.parametrize(("stride", "output_padding", "dilation"), [(1, 1, 2), (2, (2, 1), 3)])
def test_an_output_padding_of_the_stride_or_more(stride: int, output_padding: Any, dilation: int) -> None:
    x, w = (torch.randn(1, 1, n, n, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    options = {"stride": stride, "output_padding": output_padding, "dilation": dilation}
    fn = partial(conv_transpose2d, **options)
    assert_close(fn(x, w), functional.conv_transpose2d(x, w, **options), FLOAT64)
    assert gradcheck(fn, (x, w))
    assert gradgradcheck(fn, (x, w))


class Operators(TorchDispatchMode):
    """Counts forward and backward passes of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith("convolution"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def r1_of_a_small_network(functions: Any, inputs: list[torch.Tensor]) -> torch.Tensor:
    """Squared gradient of a network of a strided and a transposed convolution with smooth nonlinearities."""
    x, w1, b1, w2 = inputs
    y = functions.conv2d(x, w1, b1, stride=2, padding=1).tanh()
    y = functions.conv_transpose2d(y, w2, stride=2, padding=1).tanh()
    with no_weight_gradients():
        (gx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return gx.square().sum()


def test_second_order_gradients_are_complete() -> None:
    shapes = [(2, 3, 6, 6), (4, 3, 3, 3), (4,), (4, 2, 3, 3)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    with WeightGradients() as calls:
        penalty = r1_of_a_small_network(conv2d_gradfix, inputs)
    assert calls.counts[True] == 0
    with WeightGradients() as calls:
        ours = torch.autograd.grad(penalty, inputs)
    # Each weight acts in the forward pass and in the data gradient.
    assert calls.counts[True] == 4
    theirs = torch.autograd.grad(r1_of_a_small_network(functional, inputs), inputs)
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, FLOAT64)


def weight_gradient_exists() -> bool:
    x, w, _ = make_inputs({})
    conv2d(x, w).sum().backward()
    return w.grad is not None


def test_the_context_can_be_nested_and_ends_with_an_exception() -> None:
    with no_weight_gradients():
        with no_weight_gradients():
            assert not weight_gradient_exists()
        assert not weight_gradient_exists()
    assert weight_gradient_exists()
    with pytest.raises(ZeroDivisionError), no_weight_gradients():
        raise ZeroDivisionError
    assert weight_gradient_exists()


def test_disabled_it_is_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, b = make_inputs({})
    monkeypatch.setattr(conv2d_gradfix, "enabled", False)
    for function in (conv2d, conv_transpose2d):
        assert function(x, w, b).grad_fn.name() == "ConvolutionBackward0"
    with no_weight_gradients():
        conv2d(x, w).sum().backward()
    assert w.grad is not None


def test_without_gradients_nothing_is_kept() -> None:
    x, w, b = make_inputs({})
    with torch.no_grad():
        assert conv2d(x, w, b).grad_fn is None
        assert_close(conv_transpose2d(x, w, b), functional.conv_transpose2d(x, w, b))


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_channels_last_stays_so_in_all_passes(name: str) -> None:
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(4, 4, 3, 3, requires_grad=True)
    y = getattr(conv2d_gradfix, name)(x, w, padding=1)
    gx, _gw = torch.autograd.grad(y, [x, w], torch.ones_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert gx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_autocast_is_pytorchs(name: str, input_dtype: torch.dtype) -> None:
    image, weight = torch.randn(2, 4, 5, 6, dtype=input_dtype), torch.randn(4, 4, 3, 3, requires_grad=True)
    results = []
    for function in (getattr(conv2d_gradfix, name), getattr(functional, name)):
        with torch.autocast("cpu", torch.bfloat16):
            value = function(image, weight)
            results.append([value, *torch.autograd.grad(value.float().square().sum(), weight)])
    assert [[value.dtype for value in each] for each in results] == [[torch.bfloat16, torch.float32]] * 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_shapes_alone(name: str) -> None:
    """On the meta device, which has no autocast; memory is estimated so."""
    image, weight = torch.empty(2, 4, 5, 6, device="meta"), torch.empty(4, 4, 3, 3, device="meta", requires_grad=True)
    value = getattr(conv2d_gradfix, name)(image, weight)
    assert value.shape == getattr(functional, name)(image, weight).shape
    assert torch.autograd.grad(value.sum(), weight)[0].shape == weight.shape
