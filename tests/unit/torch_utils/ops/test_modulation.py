"""Kernels run in Triton's interpreter and are compared with the definition in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import LAYOUTS, assert_close, in_layout
from torch_utils.ops import modulation, tiles
from torch_utils.ops.layout import is_channels_last
from torch_utils.ops.modulation import epilogue, modulate

SHAPES = [(2, 5, 6, 7), (1, 1, 1, 1), (3, 4, 1, 9)]
NOISES = ["per sample", "constant", None]
ROUNDING = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several programs share an image, and take several tiles each."""
    monkeypatch.setattr(tiles, "TILE", 8)
    monkeypatch.setattr(tiles, "NUM_PROGRAMS", 12)


def tensors(shape: tuple[int, ...], noise: str | None, dtype: torch.dtype, device: str = "cpu") -> dict[str, Any]:
    """Arguments of `epilogue`: x of a dtype, the rest float32; values are multiples of 1/16 and exact in any dtype.

    Noise and the directions of `derivatives` are positive, so that the sum for the strength does not cancel.
    """
    num, channels, height, width = shape
    noise_shape = {"per sample": (num, 1, height, width), "constant": (height, width), None: ()}[noise]
    shapes = {"x": shape, "dcoefs": (num, channels), "noise": noise_shape, "noise_strength": (), "bias": (channels,)}
    found: dict[str, Any] = {
        name: (torch.randn(size) * 16).round().div(16).to(device, dtype if name == "x" else torch.float32)
        for name, size in shapes.items()
    }
    found["noise"].abs_()
    return found if noise else {**found, "noise": None, "noise_strength": None}


def definition(x: Any, dcoefs: Any, noise: Any, noise_strength: Any, bias: Any, **settings: Any) -> torch.Tensor:
    """The epilogue in plain PyTorch."""
    x = x * dcoefs[:, :, None, None] + (0 if noise is None else noise * noise_strength) + bias[:, None, None]
    act = {"lrelu": lambda x: torch.nn.functional.leaky_relu(x, 0.2), "relu": torch.relu, "linear": lambda x: x}
    x = act[settings["act"]](x) * settings["gain"]
    return x if settings["clamp"] is None else x.clamp(-settings["clamp"], settings["clamp"])


def derivatives(function: Any, args: dict[str, Any], layout: str = "contiguous") -> list[torch.Tensor]:
    """The result, its gradients, and the gradients of those for x and dcoefs, for fixed random directions."""
    args = {name: None if arg is None else arg.detach().clone() for name, arg in args.items()}
    leaves = [arg.requires_grad_() for name, arg in args.items() if arg is not None and name != "noise"]
    rng = torch.Generator().manual_seed(1)

    def directions(results: Any) -> list[torch.Tensor]:
        return [torch.rand(r.shape, generator=rng).half().to(r.device, r.dtype) for r in results]

    y = function(**{**args, "x": in_layout(args["x"], layout)})
    gradients = torch.autograd.grad(y, leaves, directions([y]), create_graph=True)
    usual = gradients[:2]  # of x and scale: what path length regularization differentiates
    seconds = torch.autograd.grad(usual, leaves[:2], directions(usual), retain_graph=True)
    return [y, *gradients, *seconds]


def assert_matches_the_definition(settings: dict[str, Any], args: dict[str, Any], layout: str, rel: float) -> None:
    exact = {name: None if arg is None else arg.double() for name, arg in args.items()}
    expected = derivatives(lambda **args: definition(**args, **settings), exact)
    actual = derivatives(lambda **args: epilogue(**args, **settings, impl="triton"), args, layout)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours.double(), theirs, rel)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_match_the_definition(layout: str) -> None:
    for shape in SHAPES:
        args = tensors(shape, "per sample", torch.float32)
        assert_matches_the_definition({"act": "lrelu", "gain": 2**0.5, "clamp": 1.1}, args, layout, 1e-6)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_programs_share_an_image(layout: str, noise: str | None) -> None:
    args = tensors((2, 3, 5, 5), noise, torch.float32)
    tiling = tiles.Tiling.of(in_layout(args["x"], layout), sums=True)
    assert tiling.tiles > 1
    assert tiling.grid[0] > 1
    assert_matches_the_definition({"act": "lrelu", "gain": 2**0.5, "clamp": 1.1}, args, layout, 1e-6)


@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
def test_kernels_for_each_activation(act: str, clamp: float | None) -> None:
    args = tensors((2, 3, 4, 5), "per sample", torch.float32)
    assert_matches_the_definition({"act": act, "gain": 0.7, "clamp": clamp}, args, "channels_last", 1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_modulation_matches_the_definition(layout: str) -> None:
    for shape in SHAPES:
        args = {"x": torch.randn(shape), "styles": torch.randn(shape[:2])}
        exact = {name: arg.double() for name, arg in args.items()}
        expected = derivatives(lambda x, styles: x * styles[:, :, None, None], exact)
        actual = derivatives(lambda x, styles: modulate(x, styles, impl="triton"), args, layout)
        for ours, theirs in zip(actual, expected, strict=True):
            assert_close(ours, theirs, 1e-6)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype, layout: str) -> None:
    """Results, not intermediate ones, are rounded; sums are float32."""
    args = tensors((2, 8, 4, 4), "per sample", dtype)
    settings = {"act": "lrelu", "gain": 2**0.5, "clamp": 256.0}
    assert_matches_the_definition(settings, args, layout, ROUNDING[dtype])
    y = epilogue(**{**args, "x": in_layout(args["x"], layout).requires_grad_()}, **settings, impl="triton")
    (grad,) = torch.autograd.grad(y, args["x"], torch.ones_like(y)) if layout == "contiguous" else (y,)
    for result in (y, grad):
        assert result.dtype == dtype
        assert is_channels_last(result) == (layout == "channels_last")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_slope_is_zero_where_it_clamps(dtype: torch.dtype) -> None:
    """0.1 is no number of binary floating point: the comparison with it must round as the clamp did."""
    x = torch.tensor([0.05, 9.0, -9.0]).reshape(1, 1, 1, 3).to(dtype).requires_grad_()
    one, zero = torch.ones(1, 1), torch.zeros(1)
    epilogue(x, one, None, None, zero, gain=1, clamp=0.1, impl="triton").sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0]


def test_what_is_not_a_number_stays_that() -> None:
    x = torch.tensor([float("nan"), float("inf"), 1.0]).reshape(1, 1, 1, 3)
    y = epilogue(x, torch.ones(1, 1), None, None, torch.zeros(1), gain=1, clamp=2.0, impl="triton").flatten()
    assert y.isnan().tolist() == [True, False, False]
    assert y[1:].tolist() == [2, 1]


@pytest.mark.parametrize("impl", ["triton", "ref"])
def test_relu_of_infinities(impl: str) -> None:
    x = torch.tensor([-math.inf, math.inf, math.nan]).reshape(1, 1, 1, 3)
    y = epilogue(x, torch.ones(1, 1), None, None, torch.zeros(1), act="relu", gain=1, impl=impl).flatten()
    assert torch.equal(y.nan_to_num(nan=-1), torch.tensor([0.0, torch.finfo(y.dtype).max, -1.0]))


@pytest.mark.parametrize("impl", ["triton", "ref"])
def test_an_empty_batch(impl: str) -> None:
    args = tensors((0, 3, 4, 4), "per sample", torch.float32)
    leaves = [args[name].requires_grad_() for name in ("x", "dcoefs", "noise_strength", "bias")]
    y = modulate(epilogue(**args, impl=impl), torch.zeros(0, 3), impl=impl)
    gradients = torch.autograd.grad(y.sum(), leaves, create_graph=True)
    assert [grad.shape for grad in gradients] == [leaf.shape for leaf in leaves]
    assert not any(grad.any() for grad in gradients)
    sum(grad.sum() for grad in gradients[:2]).backward()


def leaves64(noise: str | None = "per sample") -> dict[str, Any]:
    args = tensors((2, 2, 2, 3), noise, torch.float64)
    return {name: None if arg is None else arg.double().requires_grad_(name != "noise") for name, arg in args.items()}


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("noise", NOISES)
def test_both_derivatives(noise: str | None, layout: str) -> None:
    args = leaves64(noise)

    def function(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return epilogue(in_layout(x, layout), *rest, clamp=1.3)

    inputs = tuple(args.values())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)
    assert gradgradcheck(modulate, inputs[:2])


def test_third_derivatives() -> None:
    inputs = tuple(leaves64().values())

    def gradients(*inputs: torch.Tensor) -> Any:
        y = epilogue(*inputs, clamp=1.3)
        leaves = [each for each in inputs if each.requires_grad]
        return torch.autograd.grad(y.square().sum(), leaves, create_graph=True)

    assert gradgradcheck(gradients, inputs)


@pytest.mark.parametrize("needed", ["x", "dcoefs", "noise_strength", "bias"])
def test_only_what_is_needed_gets_a_gradient(needed: str) -> None:
    args = tensors((2, 3, 4, 4), "constant", torch.float32)
    args[needed].requires_grad_()
    epilogue(**args, impl="triton").sum().backward()
    assert {name for name, arg in args.items() if arg.grad is not None} == {needed}


@pytest.mark.parametrize("changed", [{"act": "swish"}, {"gain": -0.5}, {"gain": 0.0}, {"noise": "trained"}], ids=str)
def test_what_has_no_kernel_takes_the_definition(changed: dict[str, Any]) -> None:
    args, settings = leaves64(), {"act": "lrelu", "gain": 1.0, "clamp": 0.9, **changed}
    if settings.pop("noise", None):
        args["noise"].requires_grad_()
    inputs = tuple(args.values())
    y = epilogue(*inputs, **settings, impl="triton")
    if settings["act"] == "lrelu":
        assert_close(y, definition(**args, **settings))
    assert gradcheck(lambda *inputs: epilogue(*inputs, **settings, impl="triton"), inputs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dcoefs": torch.zeros(2, 4)}, r"dcoefs must have shape \[2, 3\], got \[2, 4\]"),
        ({"bias": torch.zeros(1, 3)}, r"bias must have shape \[3\], got \[1, 3\]"),
        ({"noise": torch.zeros(1, 1, 4, 5)}, r"noise must have shape \[2, 1, 4, 5\], got \[1, 1, 4, 5\]"),
        ({"noise": torch.zeros(5, 4)}, r"noise must have shape \[4, 5\], got \[5, 4\]"),
        ({"impl": "cpu"}, "impl must be one of auto, .*, got 'cpu'"),
    ],
)
def test_bad_input_is_named(changed: dict[str, Any], message: str) -> None:
    args = tensors((2, 3, 4, 5), "constant", torch.float32)
    with pytest.raises(ValueError, match=f"^epilogue: {message}$"):
        epilogue(**{**args, **changed})
    with pytest.raises(ValueError, match=r"^modulate: styles must have shape \[2, 3\], got \[3\]$"):
        modulate(args["x"], args["bias"])
    with pytest.raises(ValueError, match=r"^modulate: impl must be one of auto, .*, got 'cpu'$"):
        modulate(args["x"], args["dcoefs"], impl="cpu")


class Operators(TorchDispatchMode):
    """Notes what would be launched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and "empty" not in func._schema.name:
            self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def test_each_pass_is_one_operator_on_the_meta_device() -> None:
    with torch.device("meta"):
        args = tensors((8, 64, 256, 256), "per sample", torch.float16, device="meta")
    leaves = [args[name].requires_grad_() for name in ("x", "dcoefs", "noise_strength", "bias")]
    with Operators() as forward:
        y = epilogue(**args)
    with Operators() as backward:
        gradients = torch.autograd.grad(y, leaves, y, create_graph=True)
    with Operators() as second:
        torch.autograd.grad(gradients[:2], leaves[:2], gradients[:2])
    assert forward.names == ["mscond::scale_act"]
    assert backward.names == ["mscond::scale_act_grad", "sum", "sum", "sum"]
    assert second.names[:2] == ["mscond::scale_act_grad2", "sum"]


def operator_arguments(shape: tuple[int, ...], layout: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Names of operators and arguments."""
    x, g, v = (in_layout(torch.randn(shape), layout) for _ in range(3))
    scale, act, nothing = torch.rand(shape[:2]), [0.2, 1.0, 2.0], [None, None, None]
    shift = [torch.randn(shape[0], 1, *shape[2:]), torch.tensor(0.5), torch.randn(shape[1])]
    for rest in (shift, nothing, [None, None, shift[2]]):
        yield "scale_act", (x, scale, rest, act)
        yield "scale_act_grad", (g, x, scale, rest, act)
        yield "scale_act_grad2", (v, scale, g, x, scale, rest, act)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 4)], ids=str)
def test_operators_are_what_compilers_are_told(shape: tuple[int, ...], layout: str) -> None:
    for name, args in operator_arguments(shape, layout):
        torch.library.opcheck(getattr(torch.ops.mscond, name), args, test_utils=("test_schema", "test_faketensor"))


def test_references_compute_the_same() -> None:
    for name, args in operator_arguments((2, 5, 6, 7), "channels_last"):
        operation = getattr(modulation, f"_{name}")
        for ours, theirs in zip(*(operation(*args, kernel=kernel) for kernel in (True, False)), strict=True):
            assert_close(ours, theirs, 1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", [(8, 512, 4, 4), (4, 512, 32, 32), (2, 64, 256, 256), (3, 5, 17, 33)], ids=str)
def test_on_a_gpu(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> None:
    settings = {"act": "lrelu", "gain": 2**0.5, "clamp": 256.0}
    for noise in NOISES:
        args = tensors(shape, noise, dtype, device="cuda")
        assert_matches_the_definition(settings, args, layout, max(ROUNDING[dtype], 1e-5))
