from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers import LAYOUTS, Case, assert_close, case_id, golden_cases, in_layout
from torch_utils.ops.bias_act import IMPLS, activation_funcs, bias_act

ROOT2 = 2**0.5
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # arXiv 1706.02515

ACTIVATIONS: dict[str, tuple[Callable[[Any, float], Any], float, float]] = {
    "linear": (lambda x, alpha: x, 0, 1),
    "relu": (lambda x, alpha: np.maximum(x, 0), 0, ROOT2),
    "lrelu": (lambda x, alpha: np.where(x > 0, x, alpha * x), 0.2, ROOT2),
    "tanh": (lambda x, alpha: np.tanh(x), 0, 1),
    "sigmoid": (lambda x, alpha: 1 / (1 + np.exp(-x)), 0, 1),
    "elu": (lambda x, alpha: np.where(x > 0, x, np.expm1(x)), 0, 1),
    "selu": (lambda x, alpha: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)), 0, 1),
    "softplus": (lambda x, alpha: np.logaddexp(x, 0), 0, 1),
    "swish": (lambda x, alpha: x / (1 + np.exp(-x)), 0, ROOT2),
}
"""Definition, default alpha and default gain, in NumPy."""
PIECEWISE_LINEAR = ("linear", "relu", "lrelu")

SETTINGS: list[dict[str, Any]] = [{}, {"clamp": 0.5}, {"alpha": 0.3, "gain": 1.7, "clamp": 1.1}, {"gain": 0.25}]
UNUSUAL: list[dict[str, Any]] = [{"gain": -0.7}, {"alpha": -0.4}, {"gain": 0.0}, {"alpha": 1.5}, {"clamp": 0.0}]


def expected(x: torch.Tensor, b: torch.Tensor | None, dim: int, act: str, **kwargs: Any) -> np.ndarray:
    func, alpha, gain = ACTIVATIONS[act]
    alpha, gain = kwargs.get("alpha", alpha), kwargs.get("gain", gain)
    values = x.double().numpy()
    if b is not None:
        values = values + np.moveaxis(b.double().numpy().reshape([-1] + [1] * (x.ndim - 1)), 0, dim)
    y = func(values, alpha) * gain
    clamp = kwargs.get("clamp", np.inf)
    return np.clip(y, -clamp, clamp)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", list(golden_cases("bias_act")), ids=case_id)
def test_matches_the_golden_arrays(case: Case, impl: str) -> None:
    args, arrays = case
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x, dy = tensors["x"].requires_grad_(), tensors["dy"].requires_grad_()
    b = tensors["b"].requires_grad_() if args["bias"] else None
    kwargs = {name: args[name] for name in ("dim", "act", "alpha", "gain", "clamp")}
    y = bias_act(x, b, **kwargs, impl=impl)
    assert_close(y, arrays["y"])
    gx, *rest = torch.autograd.grad(y, [x] if b is None else [x, b], dy, create_graph=True)
    assert_close(gx, arrays["gx"])
    if b is not None:
        assert_close(rest[0], arrays["gb"])
    gdy, gxx = torch.autograd.grad(gx, [dy, x], tensors["v"], allow_unused=True, materialize_grads=True)
    assert_close(gdy, arrays["gdy"])
    assert_close(gxx, arrays["gxx"])


def test_the_table_of_activations() -> None:
    assert set(activation_funcs) == set(ACTIVATIONS)
    x = torch.linspace(-3, 3, 13)
    for name, (func, alpha, gain) in ACTIVATIONS.items():
        spec = activation_funcs[name]
        assert (spec.def_alpha, spec.def_gain) == (alpha, pytest.approx(gain))
        assert_close(spec.func(x, alpha=alpha), func(x.double().numpy(), alpha))
        assert_close(spec.func(x, 0.4), func(x.double().numpy(), 0.4))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_matches_the_definition(act: str, impl: str) -> None:
    for kwargs in SETTINGS + UNUSUAL:
        for shape, dim in [((3, 5), 1), ((2, 3, 5, 1), 1), ((4, 3), 0), ((2, 3, 4), 2), ((1,), 0), ((0, 3, 2, 2), 1)]:
            x = torch.randn(shape)
            for b in (None, torch.randn(shape[dim])):
                assert_close(bias_act(x, b, dim, act, impl=impl, **kwargs), expected(x, b, dim, act, **kwargs))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_both_derivatives(act: str, layout: str) -> None:
    for kwargs in SETTINGS[:3]:
        inputs = [torch.randn(2, 3, 3, 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)]

        def fn(x: torch.Tensor, b: torch.Tensor, kwargs: dict[str, Any] = kwargs) -> torch.Tensor:
            return in_layout(bias_act(in_layout(x, layout), b, act=act, **kwargs), layout)

        inputs = [each.requires_grad_() for each in inputs]
        assert gradcheck(fn, inputs)
        assert gradgradcheck(fn, inputs)


@pytest.mark.parametrize("kwargs", UNUSUAL, ids=str)
@pytest.mark.parametrize("act", PIECEWISE_LINEAR)
def test_derivatives_with_unusual_settings(act: str, kwargs: dict[str, Any]) -> None:
    inputs = [torch.randn(4, 3, dtype=torch.float64).requires_grad_(), torch.randn(3).double().requires_grad_()]
    assert gradcheck(lambda x, b: bias_act(x, b, act=act, **kwargs), inputs)
    assert gradgradcheck(lambda x, b: bias_act(x, b, act=act, **kwargs), inputs)


@pytest.mark.parametrize("needed", ["x", "b"])
@pytest.mark.parametrize("act", ["lrelu", "tanh"])
def test_only_what_is_needed_gets_a_gradient(act: str, needed: str) -> None:
    tensors = {"x": torch.randn(2, 3), "b": torch.randn(3)}
    tensors[needed].requires_grad_()
    before = tensors["x"].detach().clone()
    bias_act(**tensors, act=act).sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is not None} == {needed}
    assert torch.equal(tensors["x"], before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_keeps_dtype_and_memory_format(act: str, dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 4, 5).to(dtype, memory_format=torch.channels_last).requires_grad_()
    y = bias_act(x, torch.randn(3).to(dtype), act=act, clamp=0.7)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    for result in (y, grad):
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("act", PIECEWISE_LINEAR)
def test_the_slope_is_zero_where_it_clamps(act: str, dtype: torch.dtype) -> None:
    """0.1 is no number of binary floating point: the comparison with it must round as the clamp did."""
    x = torch.tensor([0.05, 9.0, -9.0], dtype=dtype, requires_grad=True)
    bias_act(x, act=act, gain=1, clamp=0.1).sum().backward()
    assert x.grad.tolist() == [1, 0, 0]


@pytest.mark.parametrize("act", PIECEWISE_LINEAR)
def test_the_backward_pass_keeps_the_result_and_nothing_else(act: str) -> None:
    x, b = torch.randn(2, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        y = bias_act(x, b, act=act, clamp=1.0)
    assert [tensor.shape for tensor in saved if tensor.numel() == x.numel()] == [y.shape]
    assert torch.equal(saved[0], y)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"act": "gelu"}, r"act must be one of linear, relu, .*, swish, got 'gelu'"),
        ({"impl": "cuda"}, "impl must be one of auto, ref, got 'cuda'"),
        ({"clamp": -1}, "clamp must be None or at least 0, got -1"),
        ({"x": torch.zeros(2, 3, dtype=torch.int32)}, "x must be floating point, got torch.int32"),
        ({"b": torch.zeros(4)}, r"b must have shape \[3\] \(dimension 1 of x\), got \[4\]"),
        ({"b": torch.zeros(1, 3)}, r"b must have shape \[3\] .*, got \[1, 3\]"),
        ({"b": torch.zeros(3).double()}, "b must have the dtype of x, torch.float32, got torch.float64"),
        ({"b": torch.zeros(3), "dim": 2}, r"dim must be in 0..1 for x of shape \[2, 3\], got 2"),
        ({"b": torch.zeros(3), "dim": -1}, r"dim must be in 0..1 .*, got -1"),
    ],
)
def test_bad_input_is_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^bias_act: {message}$"):
        bias_act(**{"x": torch.zeros(2, 3), **kwargs})
