"""Kernels run in Triton's interpreter; the definition step by step is what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import LAYOUTS, assert_close, in_layout
from torch_utils.ops import fir_filter, kernels
from torch_utils.ops.upfirdn2d import filter2d, setup_filter, upfirdn2d

LOW_PASS = setup_filter([1, 3, 3, 1])
SKEWED = torch.tensor([[1.0, -2.0, 0.5], [3.0, 4.0, -1.0]])
WAVELET = setup_filter(list(range(1, 13)))  # separable

GEOMETRIES: list[dict[str, Any]] = [
    {"padding": [2, 1]},
    {"padding": [1, -2, 3, 0]},
    {"up": 2, "padding": [2, 1], "gain": 4},
    {"up": 2, "padding": [-3, 3, 6, -1]},
    {"down": 2, "padding": 1},
    {"down": [3, 2], "padding": [-1, 3, 0, 4], "flip_filter": True},
    {"up": [3, 2], "down": [2, 1], "padding": [5, 1, -1, 3], "flip_filter": True, "gain": 0.5},
]


def derivatives(x: Tensor, f: Tensor, **kwargs: Any) -> list[Tensor]:
    """The result, its gradient, and the derivative of that, for fixed random directions."""
    x = x.detach().requires_grad_()
    y = upfirdn2d(x, f, **kwargs)
    directions = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in (y.shape, x.shape)]
    v, w = (direction.to(y).requires_grad_() for direction in directions)
    (gx,) = torch.autograd.grad(y, x, v, create_graph=True)
    (gv,) = torch.autograd.grad(gx, v, w)
    return [y, gx, gv]


class Recorder(TorchDispatchMode):
    """Notes all operators but views, and for convolutions whether they are transposed and in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.convolutions: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and "detach" not in str(func):
            self.names.append(str(func))
        if func is torch.ops.aten.convolution.default:
            self.convolutions.append((args[6], args[8] > 1))
        if func is torch.ops.aten.convolution_backward.default:  # its gradient of the image is a transposed one
            self.convolutions.append((not args[7], args[9] > 1))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kwargs", [GEOMETRIES[1], GEOMETRIES[5]], ids=str)
def test_kernel_reads_any_layout(kwargs: dict[str, Any], layout: str) -> None:
    x = in_layout(torch.randn(2, 3, 6, 5), layout)
    ours, theirs = (upfirdn2d(x, SKEWED, **kwargs, impl=impl) for impl in ("triton", "ref"))
    assert_close(ours, theirs, 1e-6)
    assert ours.is_contiguous(memory_format=memory_format(layout))


def memory_format(layout: str) -> torch.memory_format:
    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def test_kernel_keeps_a_cropped_image_in_channels_last() -> None:
    x = in_layout(torch.randn(2, 3, 6, 5), "channels_last")[:, :, 1:, :-2]
    y = filter2d(x, SKEWED, impl="triton")
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert_close(y, filter2d(x, SKEWED, impl="ref"), 1e-6)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 1, 9), (1, 70, 5, 2), (40, 1, 3, 3)], ids=str)
def test_kernel_on_odd_shapes(shape: tuple[int, ...], layout: str) -> None:
    x = in_layout(torch.randn(shape), layout)
    assert_close(filter2d(x, SKEWED, impl="triton"), filter2d(x, SKEWED, impl="ref"), 1e-6)


@pytest.mark.parametrize(
    ("layout", "num_threads", "shape", "num_programs"),
    [("contiguous", 4, (2, 5, 6, 7), 5 * 2), ("channels_last", 32, (1, 70, 5, 4), 2 * 2)],
)
def test_programs_share_images(
    layout: str, num_threads: int, shape: tuple[int, ...], num_programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fir_filter, "NUM_THREADS", num_threads)
    x = in_layout(torch.randn(shape), layout)
    assert fir_filter._tiling(x, SKEWED, (1, 1))[0] == (num_programs,)
    assert_close(filter2d(x, SKEWED, impl="triton"), filter2d(x, SKEWED, impl="ref"), 1e-6)


@pytest.mark.parametrize(
    ("shape", "up", "num_bands"),
    [
        ((1, 1), 1, 1),
        ((2, 1), 1, 1),
        ((1, 5), 1, 1),
        ((1, 16), 1, 1),
        ((24, 1), 1, 2),
        ((1, 24), 1, 1),
        ((8, 7), 1, 4),
        ((8, 7), 2, 1),
        ((12, 12), 2, 3),
    ],
)
def test_filters_of_all_sizes(shape: tuple[int, int], up: int, num_bands: int) -> None:
    x, f = torch.randn(1, 1, 4, 3), torch.randn(shape)
    pads = [shape[1] - 1, shape[1] // 2, shape[0] - 1, shape[0] // 2]
    ours, theirs = (upfirdn2d(x, f, up=up, padding=pads, impl=impl) for impl in ("triton", "ref"))
    assert_close(ours, theirs, 2e-6)
    assert fir_filter._tiling(ours, f, (up, up))[1]["BANDS"] == num_bands


def test_a_large_filter_that_is_not_separable() -> None:
    x, f = torch.randn(1, 1, 4, 3), torch.randn(25, 24)
    ours, theirs = (upfirdn2d(x, f, padding=14, impl=impl) for impl in ("triton", "ref"))
    assert_close(ours, theirs, 2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_kernel_in_half_precision_rounds_once(layout: str, dtype: torch.dtype) -> None:
    x = in_layout(torch.randn(2, 5, 6, 6), layout).to(dtype)
    y = upfirdn2d(x, SKEWED.double(), padding=1, impl="triton")
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=memory_format(layout))
    exact = upfirdn2d(x.float(), SKEWED, padding=1, impl="triton")
    last_bit = torch.finfo(dtype).eps * exact.abs()
    assert ((y.float() - exact).abs() <= last_bit).all()  # half of it, but the interpreter cuts bfloat16 off


def test_filters_may_lie_in_memory_in_any_way() -> None:
    x, transposed = torch.randn(1, 1, 5, 5), torch.randn(3, 2).t()
    for flip in (False, True):
        expected = filter2d(x, transposed, flip_filter=flip, impl="ref")
        assert_close(filter2d(x, transposed, flip_filter=flip, impl="triton"), expected, 1e-6)


@pytest.mark.parametrize("impl", ["auto", "triton"])
def test_an_empty_batch(impl: str) -> None:
    for result in derivatives(torch.randn(0, 3, 4, 4), LOW_PASS, up=2, padding=[2, 1], impl=impl):
        assert result.numel() == 0


@pytest.mark.parametrize("kwargs", GEOMETRIES, ids=str)
@pytest.mark.parametrize("impl", ["auto", "triton"])
def test_two_orders_of_derivatives_are_pytorchs(impl: str, kwargs: dict[str, Any]) -> None:
    x = in_layout(torch.randn(1, 2, 4, 5), "channels_last")
    ours, theirs = (derivatives(x, SKEWED, **kwargs, impl=each) for each in (impl, "ref"))
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("kwargs", [{"padding": [1, -1, 3, -1]}, {"up": [2, 1], "padding": 1}], ids=str)
def test_kernel_passes_gradcheck_and_gradgradcheck(kwargs: dict[str, Any]) -> None:
    x = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    fn = partial(upfirdn2d, f=SKEWED, **kwargs, impl="triton")
    assert gradcheck(fn, x, fast_mode=True, check_undefined_grad=False)
    assert gradgradcheck(fn, x, fast_mode=True, check_undefined_grad=False)


def test_a_filter_gets_its_gradient() -> None:
    x, f = torch.randn(1, 1, 5, 5), SKEWED.clone().requires_grad_()
    ours, theirs = filter2d(x, f, gain=2), torch.nn.functional.conv2d(x, 2 * f.flip([0, 1])[None, None], padding=1)
    v = torch.randn_like(ours)
    assert_close(*(torch.autograd.grad(y, f, v)[0] for y in (ours, theirs[..., :5, :])), 1e-6)


def all_passes(device: str, **kwargs: Any) -> Recorder:
    """Forward pass, backward pass and its derivative."""
    x, f = torch.empty(2, 3, 8, 8, device=device, requires_grad=True), LOW_PASS.to(device)
    with Recorder() as recorder:
        y = upfirdn2d(x, f, **kwargs)
        (gx,) = torch.autograd.grad(y, x, v := torch.empty_like(y, requires_grad=True), create_graph=True)
        torch.autograd.grad(gx, v, torch.empty_like(x))
    recorder.names = [name for name in recorder.names if "empty" not in name]
    return recorder


@pytest.mark.parametrize("kwargs", GEOMETRIES, ids=str)
def test_no_device_but_a_cpu_sees_transposed_depthwise_convolutions(
    kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all_passes("meta", **kwargs).names == ["mscond.upfirdn2d.default"] * 3
    monkeypatch.setattr(kernels, "are_wanted", lambda impl, tensor: False)
    assert all_passes("meta", **kwargs).convolutions == [(False, True)] * 3


def test_where_a_cpu_sees_transposed_depthwise_convolutions() -> None:
    """They take half the time there, but they are no faster without upsampling."""
    assert all_passes("cpu", padding=2).convolutions == [(False, True)] * 3
    assert all_passes("cpu", up=2, padding=2).convolutions == [(True, True), (False, True), (True, True)]
    assert all_passes("cpu", down=2, padding=2).convolutions == [(False, True), (True, True), (False, True)]


def test_separable_filters_are_two_operators() -> None:
    x, f = torch.empty(2, 3, 8, 8, device="meta"), WAVELET.to("meta")
    with Recorder() as recorder:
        y = upfirdn2d(x, f, up=2, padding=6)
    assert recorder.names == ["mscond.upfirdn2d.default"] * 2
    assert y.shape == upfirdn2d(torch.zeros(x.shape), WAVELET, up=2, padding=6).shape


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_operator_is_what_it_says(layout: str) -> None:
    x = in_layout(torch.randn(2, 3, 4, 5), layout)
    torch.library.opcheck(torch.ops.mscond.upfirdn2d, (x, SKEWED, [2, 1], [1, 3], [2, 1, 0, -1], False, 2.0))


@pytest.fixture(name="seen")
def _seen() -> Iterator[set[str]]:
    torch._dynamo.reset()
    yield set()
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch warns of itself
@pytest.mark.parametrize(
    ("impl", "operators"), [("auto", {"aten.convolution.default"}), ("triton", {"mscond.upfirdn2d.default"})]
)
def test_compilers_see_kernels_where_they_are_wanted(impl: str, operators: set[str], seen: set[str]) -> None:
    def compiler(graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., Any]:
        seen.update(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph)

    fn = partial(upfirdn2d, f=LOW_PASS, up=2, padding=[2, 1])
    compiled = torch.compile(partial(fn, impl=impl), backend=aot_autograd(fw_compiler=compiler), fullgraph=True)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    y, expected = compiled(x), fn(x, impl="ref")
    v = torch.randn_like(y)
    assert_close(y, expected, 1e-6)
    assert_close(*(torch.autograd.grad(each, x, v)[0] for each in (y, expected)), 1e-6)
    assert seen & {"aten.convolution.default", "mscond.upfirdn2d.default"} == operators


class Upsampler(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", LOW_PASS.clone())

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn2d(x, self.f, up=2, padding=[2, 1])


def test_exported_programs_need_nothing_of_this_project() -> None:
    x, cached = torch.randn(2, 3, 4, 4), fir_filter._cached_taps.cache_info()
    program = torch.export.export(Upsampler(), (x,), dynamic_shapes=({0: torch.export.Dim("num", min=1, max=8)},))
    assert fir_filter._cached_taps.cache_info() == cached
    operators = {str(node.target) for node in program.graph.nodes}
    assert "aten.conv_transpose2d.input" in operators
    assert not [name for name in operators if "mscond" in name]
    module, other = program.module(), torch.randn(5, 3, 4, 4)
    module.f.mul_(2)  # the filter is part of the program's state, not a constant
    assert_close(module(other), 2 * Upsampler()(other), 1e-6)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated and suspects every comparison
def test_traced_programs_follow_the_filter() -> None:
    traced = torch.jit.trace(Upsampler(), torch.randn(2, 3, 4, 4))
    x = torch.randn(2, 3, 4, 4)
    expected = 2 * Upsampler()(x)
    traced.f.mul_(2)
    assert_close(traced(x), expected, 1e-6)


@pytest.fixture(name="num_prepared")
def _num_prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Starts with an empty cache and counts what is prepared."""
    count, prepare = [0], fir_filter._correlation_taps

    def counting(*args: Any) -> Tensor:
        count[0] += 1
        return prepare(*args)

    monkeypatch.setattr(fir_filter, "_correlation_taps", counting)
    fir_filter._cached_taps.cache_clear()
    yield count
    fir_filter._cached_taps.cache_clear()


def test_taps_are_prepared_once(num_prepared: list[int]) -> None:
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    for f in (LOW_PASS, LOW_PASS, LOW_PASS.clone(), torch.stack([LOW_PASS] * 2)[1]):
        filter2d(x, f).sum().backward()
    assert num_prepared == [2]  # for the filter and its adjoint
    for kwargs in ({"gain": 2}, {"flip_filter": True}, {"gain": 2, "flip_filter": True}):
        filter2d(x.detach(), SKEWED, **kwargs)
    filter2d(x.detach().double(), SKEWED)
    assert num_prepared == [6]


def change_in_place(f: Tensor) -> None:
    f.mul_(3)


def change_data(f: Tensor) -> None:
    f.data.mul_(3)  # which leaves f's version counter as it is


def change_storage(f: Tensor) -> None:
    f.data = f * 3


@pytest.mark.parametrize("change", [change_in_place, change_data, change_storage])
def test_changed_filters_are_prepared_anew(change: Callable[[Tensor], None]) -> None:
    x, f = torch.randn(1, 1, 4, 4), LOW_PASS.clone()
    before = filter2d(x, f)
    change(f)
    assert_close(filter2d(x, f), 3 * before, 1e-6)


def test_the_cache_is_bounded(num_prepared: list[int]) -> None:
    x = torch.randn(1, 1, 2, 2)
    for value in range(100):
        filter2d(x, torch.full([1, 1], float(value)))
    info = fir_filter._cached_taps.cache_info()
    assert num_prepared == [100]
    assert info.currsize == info.maxsize < 100


def test_filters_prepared_in_inference_mode_are_ordinary_tensors(num_prepared: list[int]) -> None:
    with torch.inference_mode():
        filter2d(torch.randn(1, 1, 4, 4), LOW_PASS)
    taps = fir_filter._cached_taps(
        tuple(LOW_PASS.flatten().tolist()), LOW_PASS.shape, torch.float32, False, 1.0, torch.float32
    )
    assert num_prepared == [1]
    assert not taps.is_inference()


def test_tensors_without_data_are_not_cached(num_prepared: list[int]) -> None:
    with FakeTensorMode():
        y = filter2d(torch.empty(2, 3, 8, 8), torch.empty(4, 4))
    assert y.shape == (2, 3, 8, 8)
    filter2d(torch.empty(2, 3, 8, 8, device="meta"), LOW_PASS.to("meta"))
    assert fir_filter._cached_taps.cache_info().currsize == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gpus_agree_with_float64(layout: str, dtype: torch.dtype) -> None:
    rel = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    images = [(LOW_PASS, (3, 64, 33, 35)), (SKEWED, (2, 3, 9, 70)), (WAVELET, (2, 24, 24, 24))]
    for kwargs, (f, shape) in product(GEOMETRIES, images):
        kwargs = {**kwargs, "padding": [11, 4, -2, 11]}
        x = in_layout(torch.randn(shape), layout).to(dtype)
        expected = derivatives(x.double(), f, **kwargs, impl="ref")
        actual = derivatives(in_layout(x.cuda(), layout), f.cuda(), **kwargs, impl="triton")
        for ours, exact in zip(actual, expected, strict=True):
            assert ours.dtype == dtype
            assert_close(ours.double(), exact, rel)
    assert "cuda" not in kernels._broken
