from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers import LAYOUTS, Case, assert_close, case_id, golden_cases, in_layout
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

FILTERS = {
    "none": None,
    "1331": setup_filter([1, 3, 3, 1]),
    "2x3": torch.tensor([[1.0, -2.0, 0.5], [3.0, 4.0, -1.0]]),
    "separable": setup_filter([1, 2, 1], separable=True),
}
FLOAT64 = 1e-12


def definition(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None,
    up: int,
    down: int,
    padding: list[int],
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> torch.Tensor:
    """Upsample and filter, convolve, filter and downsample, one after the other."""
    fw, fh = (1, 1) if f is None else (f.shape[-1], f.shape[0])
    pads = list(padding)
    for axis, taps in enumerate((fw, fh)):
        if up > 1:
            pads[2 * axis] += (taps + up - 1) // 2
            pads[2 * axis + 1] += (taps - up) // 2
        if down > 1:
            pads[2 * axis] += (taps - down + 1) // 2
            pads[2 * axis + 1] += (taps - down) // 2
    f_up, f_down = (f if up > 1 else None), (f if down > 1 else None)
    x = upfirdn2d(x, f_up, up=up, padding=pads, gain=up**2, flip_filter=flip_filter, impl="ref")
    x = torch.nn.functional.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return upfirdn2d(x, f_down, down=down, flip_filter=flip_filter, impl="ref")


@pytest.mark.parametrize("case", list(golden_cases("conv2d_resample", op="conv2d_resample")), ids=case_id)
def test_matches_the_golden_arrays(case: Case) -> None:
    args, arrays = case
    kwargs = {name: args[name] for name in ("up", "down", "padding", "groups", "flip_weight")}
    x, w, f, r = (torch.from_numpy(arrays[name]) for name in "xwfr")
    y = conv2d_resample(x.requires_grad_(), w.requires_grad_(), f, **kwargs)
    assert_close(y, arrays["y"])
    gx, gw = torch.autograd.grad(y, [x, w], r)
    assert_close(gx, arrays["gx"])
    assert_close(gw, arrays["gw"])


pads, factors = st.integers(-3, 4), st.sampled_from([1, 1, 2, 3])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    f=st.sampled_from(list(FILTERS)),
    size=st.tuples(st.integers(0, 2), st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    up=factors,
    down=factors,
    padding=st.tuples(pads, pads, pads, pads),
    groups=st.sampled_from([1, 2]),
    flip_weight=st.booleans(),
    flip_filter=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
def test_matches_the_definition(
    f: str, size: tuple[int, ...], kernel: tuple[int, int], padding: tuple[int, ...], layout: str, **kwargs: Any
) -> None:
    x = torch.randn(size[0], 2 * kwargs["groups"], *size[1:], dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, *kernel, dtype=torch.float64, requires_grad=True)
    kwargs = {"f": FILTERS[f], "padding": list(padding), **kwargs}
    try:
        expected = definition(x, w, **kwargs)
    except (ValueError, RuntimeError):  # the image is too small, as upfirdn2d or PyTorch says
        with pytest.raises(
            ValueError, match=r"^(conv2d_resample: w|upfirdn2d: the filter) .* is larger than the padded"
        ):
            conv2d_resample(x, w, **kwargs)
        return
    actual = conv2d_resample(in_layout(x, layout), w, **kwargs)
    assert_close(actual, expected, FLOAT64)
    r = torch.randn_like(expected)
    for ours, theirs in zip(*(torch.autograd.grad(y, [x, w], r) for y in (actual, expected)), strict=True):
        assert_close(ours, theirs, FLOAT64)


BRANCHES: list[dict[str, Any]] = [
    {"kernel": 3, "padding": 1},
    {"kernel": 2, "padding": [1, 0, -1, 2]},
    {"kernel": 1, "up": 2},
    {"kernel": 3, "up": 2, "padding": 1, "flip_weight": False},
    {"kernel": 3, "up": 2, "padding": 1, "groups": 2},
    {"kernel": 1, "down": 2},
    {"kernel": 3, "down": 2, "padding": 1},
    {"kernel": 3, "up": 2, "down": 2, "padding": 1, "flip_filter": True},
]
"""One of each way of computing it."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("branch", BRANCHES, ids=str)
def test_both_derivatives(branch: dict[str, Any], layout: str) -> None:
    kwargs = {name: value for name, value in branch.items() if name != "kernel"}
    groups = kwargs.get("groups", 1)
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2 // groups, *[branch["kernel"]] * 2, dtype=torch.float64, requires_grad=True)

    def fn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return in_layout(conv2d_resample(in_layout(x, layout), in_layout(w, layout), FILTERS["1331"], **kwargs), layout)

    assert gradcheck(fn, [x, w])
    assert gradgradcheck(fn, [x, w])


@pytest.mark.parametrize("branch", [{"up": 2}, {"down": 1}, {"up": 2, "down": 2}], ids=str)
def test_a_single_pixel(branch: dict[str, int]) -> None:
    x, w = torch.randn(1, 2, 1, 1, dtype=torch.float64), torch.randn(3, 2, 3, 3, dtype=torch.float64)
    expected = definition(x, w, FILTERS["1331"], **{"up": 1, "down": 1, **branch}, padding=[1] * 4)
    assert_close(conv2d_resample(x, w, FILTERS["1331"], padding=1, **branch), expected, FLOAT64)


@pytest.mark.parametrize("branch", BRANCHES, ids=str)
def test_keeps_dtype_and_memory_format(branch: dict[str, Any]) -> None:
    kwargs = {name: value for name, value in branch.items() if name != "kernel"}
    w = torch.randn(2, 2 // kwargs.get("groups", 1), *[branch["kernel"]] * 2)
    x = torch.randn(2, 2, 8, 8)
    y = conv2d_resample(x, w, FILTERS["1331"], **kwargs)
    for dtype, rel in [(torch.bfloat16, 5e-2), (torch.float64, 1e-5)]:
        other = conv2d_resample(x.to(dtype, memory_format=torch.channels_last), w.to(dtype), FILTERS["1331"], **kwargs)
        assert other.dtype == dtype
        assert other.is_contiguous(memory_format=torch.channels_last)
        assert_close(other.float(), y, rel)


@pytest.mark.parametrize("branch", BRANCHES, ids=str)
def test_weights_in_bfloat16_give_float32_to_any_order(branch: dict[str, Any]) -> None:
    kwargs = {name: value for name, value in branch.items() if name != "kernel"}
    w = torch.randn(2, 2 // kwargs.get("groups", 1), *[branch["kernel"]] * 2)
    x = torch.randn(2, 2, 8, 8)

    def gradients(w_dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.clone().requires_grad_(), w.clone().requires_grad_()]
        y = conv2d_resample(leaves[0], leaves[1].to(w_dtype), FILTERS["1331"], **kwargs)
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        return [y, *first, *torch.autograd.grad(first[0].square().sum(), leaves)]

    for mixed, exact in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        assert mixed.dtype == torch.float32
        assert_close(mixed, exact, 5e-2)


def test_weights_in_bfloat16_leave_the_filter_in_float32() -> None:
    """The convolution is exact here, so that one rounding is left: before the filter upwards, after it downwards."""
    x, w = torch.randn(2, 2, 8, 8), torch.eye(2)[:, :, None, None]
    rounded = x.bfloat16().float()
    up = conv2d_resample(x, w.bfloat16(), FILTERS["1331"], up=2)
    assert_close(up, definition(rounded, w, FILTERS["1331"], up=2, down=1, padding=[0] * 4))
    down = conv2d_resample(x, w.bfloat16(), FILTERS["1331"], down=2)
    expected = definition(x, w, FILTERS["1331"], up=1, down=2, padding=[0] * 4)
    assert (down - expected).abs().max() <= expected.abs().max() / 256
    assert torch.equal(down, down.bfloat16().float())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"x": torch.zeros(2, 8, 8)},
            r"needs x \[N, I, H, W\] and w \[O, .*\], .*, got \[2, 8, 8\] and \[4, 2, 3, 3\]",
        ),
        ({"w": torch.zeros(2, 3, 3)}, r"needs x .* got \[1, 2, 8, 8\] and \[2, 3, 3\]"),
        ({"w": torch.zeros(0, 2, 3, 3)}, r"needs x .* not empty, got \[1, 2, 8, 8\] and \[0, 2, 3, 3\]"),
        ({"w": torch.zeros(4, 2, 3, 3).double()}, "x and w must have one floating-point dtype, got .*float32 and .*64"),
        ({"w": torch.zeros(4, 2, 3, 3).half()}, "x and w must have one floating-point dtype, got .*float32 and .*16"),
        ({"x": torch.zeros(1, 2, 8, 8).bfloat16()}, "x and w must have one .*, got torch.bfloat16 and torch.float32"),
        (
            {"x": torch.zeros(1, 2, 8, 8).int(), "w": torch.zeros(4, 2, 3, 3).int()},
            "x and w must .* got torch.int32 .*",
        ),
        ({"w": torch.zeros(4, 3, 3, 3)}, r"x has 2 channels, but w \[4, 3, 3, 3\] with groups=1 takes 3 and gives 4"),
        ({"w": torch.zeros(3, 1, 3, 3), "groups": 2}, "x has 2 channels, but w .* groups=2 takes 2 and gives 3"),
        ({"up": 0}, "up, down and groups must be positive ints, got 0, 1 and 1"),
        ({"down": 1.5}, "up, down and groups must be positive ints, got 1, 1.5 and 1"),
        ({"groups": [1]}, r"up, down and groups must be positive ints, got 1, 1 and \[1\]"),
        (
            {"w": torch.zeros(4, 2, 9, 3)},
            r"w \[4, 2, 9, 3\] is larger than the padded, filtered image \[8, 8\]; pad more",
        ),
        ({"up": 2, "padding": -9}, r"w .* is larger than the padded, filtered image \[-2, -2\]; pad more"),
    ],
)
def test_bad_input_is_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^conv2d_resample: {message}$"):
        conv2d_resample(**{"x": torch.zeros(1, 2, 8, 8), "w": torch.zeros(4, 2, 3, 3), "f": FILTERS["1331"], **kwargs})


@pytest.mark.parametrize("kwargs", [{"f": torch.ones(1, 2, 2)}, {"padding": [1, 2, 3]}], ids=["f", "padding"])
def test_filters_and_paddings_are_checked_as_by_upfirdn2d(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^upfirdn2d: {next(iter(kwargs))} must be"):
        conv2d_resample(torch.zeros(1, 2, 8, 8), torch.zeros(4, 2, 3, 3), up=2, **kwargs)
