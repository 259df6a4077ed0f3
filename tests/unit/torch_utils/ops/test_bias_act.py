from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import LAYOUTS, REL_FLOAT32, Case, assert_close, case_id, golden_cases, in_layout
from torch_utils.ops import kernels
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

REL_KERNEL = 1e-6
"""Largest error of a kernel relative to the largest magnitude of the expected array."""

SETTINGS: list[dict[str, Any]] = [{}, {"clamp": 0.5}, {"alpha": 0.3, "gain": 1.7, "clamp": 1.1}, {"gain": 0.25}]
SHAPES = [((3, 5), 1), ((2, 3, 5, 1), 1), ((4, 3), 0), ((2, 3, 4), 2), ((1,), 0), ((0, 3, 2, 2), 1)]
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
    rel = REL_KERNEL if impl == "triton" else REL_FLOAT32
    y = bias_act(x, b, **kwargs, impl=impl)
    assert_close(y, arrays["y"], rel)
    gx, *rest = torch.autograd.grad(y, [x] if b is None else [x, b], dy, create_graph=True)
    assert_close(gx, arrays["gx"], rel)
    if b is not None:
        assert_close(rest[0], arrays["gb"], rel)
    gdy, gxx = torch.autograd.grad(gx, [dy, x], tensors["v"], allow_unused=True, materialize_grads=True)
    assert_close(gdy, arrays["gdy"], rel)
    assert_close(gxx, arrays["gxx"], rel)


def test_the_table_of_activations() -> None:
    assert set(activation_funcs) == set(ACTIVATIONS)
    x = torch.linspace(-3, 3, 13)
    for name, (func, alpha, gain) in ACTIVATIONS.items():
        spec = activation_funcs[name]
        assert (spec.def_alpha, spec.def_gain) == (alpha, pytest.approx(gain))
        assert_close(spec.func(x, alpha=alpha), func(x.double().numpy(), alpha))
        assert_close(spec.func(x, 0.4), func(x.double().numpy(), 0.4))


@pytest.mark.parametrize("impl", ["auto", "ref"])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_matches_the_definition(act: str, impl: str) -> None:
    for kwargs in SETTINGS + UNUSUAL:
        for shape, dim in SHAPES:
            x = torch.randn(shape)
            for b in (None, torch.randn(shape[dim])):
                assert_close(bias_act(x, b, dim, act, impl=impl, **kwargs), expected(x, b, dim, act, **kwargs))


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_kernel_matches_the_definition(act: str) -> None:
    for kwargs, (shape, dim) in zip(SETTINGS + UNUSUAL, itertools.cycle(SHAPES), strict=False):
        x, b = 3 * torch.randn(shape), torch.randn(shape[dim])
        y = bias_act(x, b, dim, act, impl="triton", **kwargs)
        assert_close(y, expected(x, b, dim, act, **kwargs), REL_KERNEL)


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


@pytest.mark.parametrize(("act", "kwargs"), [(act, SETTINGS[2]) for act in ACTIVATIONS] + [("lrelu", UNUSUAL[0])])
def test_both_derivatives_of_the_kernel(act: str, kwargs: dict[str, Any]) -> None:
    inputs = [torch.randn(2, 3, 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)]
    inputs = [each.requires_grad_() for each in inputs]
    fn = partial(bias_act, act=act, impl="triton", **kwargs)
    assert gradcheck(fn, inputs, fast_mode=True)
    assert gradgradcheck(fn, inputs, fast_mode=True)


@pytest.mark.parametrize("impl", ["auto", "ref", "triton"])
def test_relu_of_infinities(impl: str) -> None:
    x = torch.tensor([-math.inf, math.inf, math.nan], requires_grad=True)
    y = bias_act(x, dim=0, act="relu", gain=1, impl=impl)
    assert torch.equal(y.nan_to_num(nan=-1), torch.tensor([0.0, torch.finfo(y.dtype).max, -1.0]))
    (gx,) = torch.autograd.grad(y[:2].sum(), x)
    assert gx[:2].tolist() == [0, 1]


@pytest.mark.parametrize("impl", ["auto", "triton"])
@pytest.mark.parametrize("needed", ["x", "b"])
@pytest.mark.parametrize("act", ["lrelu", "tanh"])
def test_only_what_is_needed_gets_a_gradient(act: str, needed: str, impl: str) -> None:
    tensors = {"x": torch.randn(2, 3), "b": torch.randn(3)}
    tensors[needed].requires_grad_()
    before = tensors["x"].detach().clone()
    bias_act(**tensors, act=act, impl=impl).sum().backward()
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


@pytest.mark.parametrize("impl", ["auto", "triton"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("act", PIECEWISE_LINEAR)
def test_the_slope_is_zero_where_it_clamps(act: str, dtype: torch.dtype, impl: str) -> None:
    """0.1 is no number of binary floating point: the comparison with it must round as the clamp did."""
    x = torch.tensor([0.05, 9.0, -9.0], dtype=dtype, requires_grad=True)
    bias_act(x, act=act, gain=1, clamp=0.1, impl=impl).sum().backward()
    assert x.grad.tolist() == [1, 0, 0]


@pytest.mark.parametrize("impl", ["auto", "triton"])
@pytest.mark.parametrize("act", PIECEWISE_LINEAR)
def test_the_backward_pass_keeps_the_result_and_nothing_else(act: str, impl: str) -> None:
    x, b = torch.randn(2, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        y = bias_act(x, b, act=act, clamp=1.0, impl=impl)
    assert [tensor.shape for tensor in saved if tensor.numel() == x.numel()] == [y.shape]
    assert torch.equal(saved[0], y)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"act": "gelu"}, r"act must be one of linear, relu, .*, swish, got 'gelu'"),
        ({"impl": "gpu"}, "impl must be one of auto, triton, ref, cuda, got 'gpu'"),
        ({"clamp": -1}, "clamp must be None or at least 0, got -1"),
        ({"x": torch.zeros(2, 3, dtype=torch.int32)}, "x must be floating point, got torch.int32"),
        ({"b": torch.zeros(4)}, r"b must have shape \[3\] \(dimension 1 of x\), got \[4\]"),
        ({"b": torch.zeros(1, 3)}, r"b must have shape \[3\] .*, got \[1, 3\]"),
        ({"b": torch.zeros(3).double()}, "b must have the dtype of x, torch.float32, got torch.float64"),
        ({"b": torch.zeros(3, device="meta")}, "b must be on the device of x, cpu, got meta"),
        ({"b": torch.zeros(3), "dim": 2}, r"dim must be in 0..1 for x of shape \[2, 3\], got 2"),
        ({"b": torch.zeros(3), "dim": -1}, r"dim must be in 0..1 .*, got -1"),
    ],
)
def test_bad_input_is_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^bias_act: {message}$"):
        bias_act(**{"x": torch.zeros(2, 3), **kwargs})


def all_passes(x: torch.Tensor, b: torch.Tensor, dim: int, **kwargs: Any) -> dict[str, torch.Tensor]:
    """The result and its first and second derivatives, as they follow from ``x``."""
    x, b = x.detach().requires_grad_(), b.detach().requires_grad_()
    gy = x.detach().cos().requires_grad_()
    y = bias_act(x, b, dim, **kwargs)
    gx, gb = torch.autograd.grad(y, [x, b], gy, create_graph=True)
    weights = [(3 * x).sin().detach(), (3 * b).sin().detach()]
    seconds = torch.autograd.grad([gx, gb], [gy, x, b], weights, allow_unused=True, materialize_grads=True)
    return dict(zip(["y", "gx", "gb", "gyy", "gxx", "gxb"], [y, gx, gb, *seconds], strict=True))


@pytest.mark.parametrize("act", ["lrelu", "swish"])
@pytest.mark.parametrize(
    ("shape", "dim", "layout"),
    [
        ((2, 3, 70, 67), 1, "contiguous"),  # rows longer than a program
        ((1, 1100, 2, 2), 1, "contiguous"),  # more rows than a program
        ((2, 70, 9, 8), 1, "channels_last"),  # more rows and columns than a program
        ((80, 65), 1, "contiguous"),
        *(((2, 3, 5, 4), dim, layout) for layout in LAYOUTS for dim in (1, 3)),
        ((2, 3, 5, 4), 0, "channels_last"),
        ((3, 1, 5, 4), 1, "channels_last"),
        ((3, 5, 1, 1), 1, "transposed"),
    ],
    ids=str,
)
def test_the_kernel_takes_every_layout(shape: tuple[int, ...], dim: int, layout: str, act: str) -> None:
    x = torch.randn(shape)
    x, b = in_layout(x, layout) if x.ndim == 4 else x, torch.randn(shape[dim])
    found, wanted = (all_passes(x, b, dim, act=act, clamp=1.5, impl=impl) for impl in ("triton", "ref"))
    for name, tensor in wanted.items():
        assert_close(found[name], tensor, 2e-6)
    assert found["y"].stride() == wanted["y"].stride()


def test_the_kernel_takes_gradients_in_every_layout() -> None:
    x, b = torch.randn(2, 3, 5, 4).requires_grad_(), torch.randn(3).requires_grad_()
    for grad in [in_layout(torch.randn_like(x), layout) for layout in LAYOUTS] + [torch.ones(1).expand_as(x)]:
        found, wanted = (torch.autograd.grad(bias_act(x, b, impl=impl), [x, b], grad) for impl in ("triton", "ref"))
        for each, other in zip(found, wanted, strict=True):
            assert_close(each, other)


def away_from_the_clamp(x: torch.Tensor, b: torch.Tensor, act: str, clamp: float) -> torch.Tensor:
    """``x``, but -b (dimension 1) where a rounded result may be on the other side of the clamp."""
    y = bias_act(x.double(), b.double(), act=act, impl="ref")
    return torch.where((y.abs() - clamp).abs() < 0.02, -b.reshape([1, -1, 1, 1]), x)


@pytest.mark.parametrize(("dtype", "roundings"), [(torch.float16, 0.5), (torch.bfloat16, 1)])
@pytest.mark.parametrize("act", ["lrelu", "swish"])
def test_the_kernel_rounds_half_precision_once(act: str, dtype: torch.dtype, roundings: float) -> None:
    """To nearest; Triton's interpreter rounds bfloat16 towards zero."""
    b, grad = torch.randn(3).to(dtype).requires_grad_(), torch.randn(4, 3, 16, 16).to(dtype)
    x = torch.randn(4, 3, 16, 16).to(dtype, memory_format=torch.channels_last)
    x = away_from_the_clamp(x, b, act, 1.1).detach().requires_grad_()
    exact_x, exact_b = x.detach().double().requires_grad_(), b.detach().double().requires_grad_()
    y = bias_act(x, b, act=act, clamp=1.1, impl="triton")
    exact_y = bias_act(exact_x, exact_b, act=act, clamp=1.1, impl="ref")
    found = [y, *torch.autograd.grad(y, [x, b], grad)]
    wanted = [exact_y, *torch.autograd.grad(exact_y, [exact_x, exact_b], grad.double())]
    for each, exact in zip(found, wanted, strict=True):
        assert each.dtype == dtype
        assert_close(each.double(), exact, roundings * torch.finfo(dtype).eps)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_the_kernel_takes_empty_tensors_and_numbers() -> None:
    for shape in [(0, 3, 2, 2), (2, 0, 2, 2)]:
        x, b = torch.zeros(shape, requires_grad=True), torch.zeros(shape[1], requires_grad=True)
        gx, gb = torch.autograd.grad(bias_act(x, b, impl="triton").sum(), [x, b])
        assert gx.shape == shape
        assert torch.equal(gb, torch.zeros(shape[1]))
    assert bias_act(torch.tensor(-3.0), act="lrelu", gain=1, impl="triton").item() == pytest.approx(-0.6)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_kernel_neither_overflows_nor_hides_nan(act: str) -> None:
    x = torch.tensor([math.nan, 200.0, -200.0, 0.0, 1e-4, -1e-4]).requires_grad_()
    found, wanted = (bias_act(x, act=act, clamp=500, impl=impl) for impl in ("triton", "ref"))
    torch.testing.assert_close(found, wanted, equal_nan=True, rtol=1e-6, atol=0)
    found, wanted = (torch.autograd.grad(y, x, torch.ones_like(x))[0][1:] for y in (found, wanted))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("act", ["tanh", "swish"])
def test_a_third_derivative_of_a_curve_is_no_silent_zero(act: str) -> None:
    x = torch.randn(3, requires_grad=True)
    (first,) = torch.autograd.grad(bias_act(x, act=act, impl="triton").sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="impl='ref'"):
        second.sum().backward()


class Recorder(TorchDispatchMode):
    """Notes the names of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("act", "second"), [("lrelu", "bias_act_grad"), ("swish", "bias_act_grad_grad")])
def test_a_pass_is_one_operator_on_the_meta_device(act: str, second: str) -> None:
    x, b, gy = (torch.empty(shape, device="meta", requires_grad=True) for shape in ([2, 3, 4, 4], [3], [2, 3, 4, 4]))
    with Recorder() as recorder:
        y = bias_act(x, b, act=act, clamp=1.0)
        gx, gb = torch.autograd.grad(y, [x, b], gy, create_graph=True)
        gyy, *_ = torch.autograd.grad(gx, [gy, x], x, allow_unused=True)
    assert [name for name in recorder.names if "detach" not in name] == [
        f"mscond.{name}.default" for name in ("bias_act", "bias_act_grad", second)
    ]
    assert [tensor.shape for tensor in (y, gx, gb, gyy)] == [x.shape, x.shape, b.shape, x.shape]


@pytest.mark.parametrize(("act", "dtype"), [("lrelu", torch.float16), ("swish", torch.float32)])
def test_the_operators_are_what_they_say(act: str, dtype: torch.dtype) -> None:
    x, b = in_layout(torch.randn(2, 3, 4, 5), "channels_last").to(dtype), torch.randn(3).to(dtype)
    how = (1, act, [0.2, 1.4, 1.0])
    torch.library.opcheck(torch.ops.mscond.bias_act, (x, b, *how))
    for needs_gb in (True, False):
        torch.library.opcheck(torch.ops.mscond.bias_act_grad, (x, x, None, needs_gb, *how))
        torch.library.opcheck(torch.ops.mscond.bias_act_grad_grad, (x, x, x, b, needs_gb, *how))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch warns of itself
@pytest.mark.parametrize(("impl", "operators"), [("auto", set()), ("triton", {"bias_act", "bias_act_grad"})])
def test_compilers_see_kernels_where_they_are_wanted(impl: str, operators: set[str]) -> None:
    seen: set[str] = set()

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        seen.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph)

    x, b = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    fn = partial(bias_act, act="lrelu", clamp=0.9)
    backends = aot_autograd(fw_compiler=backend, bw_compiler=backend)
    y = torch.compile(partial(fn, impl=impl), backend=backends, fullgraph=True)(x, b)
    for found, wanted in zip(
        [y, *torch.autograd.grad(y.sum(), [x, b])],
        [fn(x, b), *torch.autograd.grad(fn(x, b).sum(), [x, b])],
        strict=True,
    ):
        assert_close(found, wanted)
    assert {name for name in seen if "mscond" in name} == {f"mscond.{name}.default" for name in operators}


class Layer(torch.nn.Module):
    def __init__(self, impl: str) -> None:
        super().__init__()
        self.impl = impl

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return bias_act(x, act="tanh", gain=2, impl=self.impl)


@pytest.mark.parametrize(("impl", "wanted"), [("auto", False), ("cuda", False), ("triton", True)])
def test_exporters_see_kernels_where_they_are_wanted(impl: str, wanted: bool) -> None:
    x = torch.randn(2, 3)
    program = torch.export.export(Layer(impl), (x,))
    assert any("mscond.bias_act" in str(node.target) for node in program.graph.nodes) == wanted
    assert_close(program.module()(x), Layer("ref")(x))


@pytest.mark.parametrize("act", ["relu", "swish"])
def test_where_kernels_fail_pytorch_takes_over_with_one_warning(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_kernel: Any) -> Any:
        raise RuntimeError("no compiler\nfor this machine")

    x, b = torch.randn(2, 3, 4), torch.randn(3)
    wanted = all_passes(x, b, 1, act=act, clamp=0.8, impl="ref")
    monkeypatch.setattr(kernels, "_broken", set())
    monkeypatch.setattr(kernels, "are_wanted", lambda impl, tensor: True)
    monkeypatch.setattr(kernels, "compiled", failing)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.warns(UserWarning, match="RuntimeError: no compiler$") as warned:
        found = all_passes(x, b, 1, act=act, clamp=0.8)
    assert len(warned) == 1
    for name, tensor in wanted.items():
        assert_close(found[name], tensor)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_kernels_on_gpus_match_float64(act: str, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    rel = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    for shape in [(8, 64, 64, 64), (8, 512, 4, 4), (8, 3, 64, 64), (2, 5, 33, 31)]:
        b = torch.randn(shape[1], device="cuda").to(dtype)
        x = torch.randn(shape, device="cuda").to(dtype)
        x = away_from_the_clamp(x, b, act, 1.5).contiguous(memory_format=memory_format)
        found = all_passes(x, b, 1, act=act, clamp=1.5)
        wanted = all_passes(x.double(), b.double(), 1, act=act, clamp=1.5, impl="ref")
        for name, tensor in wanted.items():
            assert_close(found[name].double(), tensor, rel)
        assert found["y"].is_contiguous(memory_format=memory_format)
    assert bias_act(torch.full([3], math.nan, device="cuda", dtype=dtype), act=act, clamp=1.5).isnan().all()
    assert "cuda" not in kernels._broken
