from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers import LAYOUTS, Case, assert_close, case_id, golden_cases, in_layout
from torch_utils.ops import upfirdn2d as ops
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

LOW_PASS = setup_filter([1, 3, 3, 1])
FILTERS = {
    "none": None,
    "1331": LOW_PASS,
    "2x3": torch.tensor([[1.0, -2.0, 0.5], [3.0, 4.0, -1.0]]),
    "separable": torch.tensor([1.0, 2.0, -0.5]),
    "one": torch.tensor([[2.0]]),
}


def naive(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: tuple[int, int],
    down: tuple[int, int],
    pads: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> np.ndarray:
    """The definition by loops over output pixels, in float64."""
    taps = np.ones([1, 1]) if f is None else f.double().numpy()
    taps = np.outer(taps, taps) if taps.ndim == 1 else taps
    taps = taps if flip_filter else taps[::-1, ::-1]
    num, channels, height, width = x.shape
    stuffed = np.zeros([num, channels, height * up[1], width * up[0]])
    stuffed[:, :, :: up[1], :: up[0]] = x.double().numpy()
    x0, x1, y0, y1 = pads
    grown = np.pad(stuffed, [(0, 0), (0, 0), (max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0))])
    bottom, right = max(grown.shape[2] + min(y1, 0), 0), max(grown.shape[3] + min(x1, 0), 0)
    padded = grown[:, :, max(-y0, 0) : bottom, max(-x0, 0) : right]
    (fh, fw), (rows, columns) = taps.shape, padded.shape[2:]
    starts = [range(0, rows - fh + 1, down[1]), range(0, columns - fw + 1, down[0])]
    y = np.zeros([num, channels, *map(len, starts)])
    for (i, row), (j, column) in product(enumerate(starts[0]), enumerate(starts[1])):
        y[:, :, i, j] = (padded[:, :, row : row + fh, column : column + fw] * taps).sum((2, 3))
    return y * gain


@pytest.mark.parametrize("impl", ["auto", "triton", "ref"])
@pytest.mark.parametrize("case", list(golden_cases("upfirdn2d")), ids=case_id)
def test_matches_the_golden_arrays(case: Case, impl: str) -> None:
    args, arrays = case
    kwargs = {name: value for name, value in args.items() if name not in ("op", "filter", "key")}
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    f = torch.from_numpy(arrays["f"]) if "f" in arrays else None
    y = getattr(ops, args["op"])(x, f, **kwargs, impl=impl)
    assert_close(y, arrays["y"], rel=1e-6)
    if "r" in arrays:
        (gx,) = torch.autograd.grad(y, x, torch.from_numpy(arrays["r"]))
        assert_close(gx, arrays["gx"], rel=1e-6)


small, factors, pads = st.integers(1, 5), st.integers(1, 4), st.integers(-6, 7)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    f=st.sampled_from(list(FILTERS)),
    shape=st.tuples(st.integers(0, 2), st.integers(1, 2), small, small),
    up=st.tuples(factors, factors),
    down=st.tuples(factors, factors),
    padding=st.tuples(pads, pads, pads, pads),
    flip_filter=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
@example("1331", (1, 1, 5, 5), (1, 1), (1, 1), (0, 0, -1, -1), False, "contiguous")  # symmetric crop
def test_matches_the_definition(
    f: str,
    shape: tuple[int, ...],
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    layout: str,
) -> None:
    x, taps = in_layout(torch.randn(shape), layout), FILTERS[f]
    expected = naive(x, taps, up, down, padding, flip_filter, gain=1.5)
    for impl in ("auto", "ref"):  # the kernel is slow to interpret: test_fir_filter.py has its cases
        if 0 in expected.shape[2:]:
            with pytest.raises(ValueError, match=r"^upfirdn2d: the filter .* is larger than the padded image .*; pad"):
                upfirdn2d(x, taps, up, down, padding, flip_filter, 1.5, impl)
        else:
            assert_close(upfirdn2d(x, taps, up, down, padding, flip_filter, 1.5, impl), expected)


DERIVATIVE_CASES: list[dict[str, Any]] = [
    {"f": "1331", "padding": [2, 1]},
    {"f": "2x3", "padding": [2, -1, 0, 1]},
    {"f": "1331", "up": 2, "padding": [2, 1]},
    {"f": "1331", "up": 2, "padding": [-3, 1, 5, -1]},
    {"f": "1331", "down": 2, "padding": [1, 1]},
    {"f": "2x3", "up": [3, 2], "down": [1, 2], "padding": 2, "flip_filter": True, "gain": 2.0},
    {"f": "separable", "up": 2, "down": 3, "padding": 1},
    {"f": "none", "up": 2},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kwargs", DERIVATIVE_CASES, ids=str)
def test_both_derivatives(kwargs: dict[str, Any], layout: str) -> None:
    kwargs = {**kwargs, "f": FILTERS[kwargs["f"]]}
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)

    def fn(x: torch.Tensor) -> torch.Tensor:
        return in_layout(upfirdn2d(in_layout(x, layout), **kwargs), layout)

    assert gradcheck(fn, x)
    assert gradgradcheck(fn, x)


def test_derivatives_of_a_single_pixel() -> None:
    x = torch.randn(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    for function in (filter2d, upsample2d):
        assert gradcheck(function, (x, LOW_PASS))
        assert gradgradcheck(function, (x, LOW_PASS))


@pytest.mark.parametrize("f", FILTERS)
@pytest.mark.parametrize("function", [filter2d, upsample2d, downsample2d])
def test_images_are_not_moved(function: Any, f: str) -> None:
    """A constant image keeps its value in the middle, and sizes are those of the factor alone."""
    taps = None if FILTERS[f] is None else torch.ones_like(FILTERS[f]) / FILTERS[f].numel()
    x = torch.ones(1, 2, 12, 16)
    factor = {filter2d: 1, upsample2d: 2, downsample2d: 1 / 2}[function]
    y = function(x, taps)
    assert y.shape == (1, 2, 12 * factor, 16 * factor)
    if f == "1331" or function is not upsample2d:  # with fewer taps than the factor holes remain
        assert_close(y[:, :, 2:-2, 2:-2], torch.ones_like(y[:, :, 2:-2, 2:-2]))


@pytest.mark.parametrize("up", [2, 3, [3, 1]])
def test_padding_of_the_wrappers_is_added(up: Any) -> None:
    x = torch.randn(1, 1, 6, 6)
    up_x, up_y = (up, up) if isinstance(up, int) else up
    assert upsample2d(x, LOW_PASS, up, padding=[1, 0]).shape[2:] == (6 * up_y, 6 * up_x + 2)
    assert_close(upsample2d(x, LOW_PASS, up, padding=[1, 0])[..., 1:-1], upsample2d(x, LOW_PASS, up))
    assert_close(filter2d(x, LOW_PASS, padding=-1), filter2d(x, LOW_PASS)[..., 1:-1, 1:-1])
    assert_close(downsample2d(x, LOW_PASS, 2, padding=[2, 0])[..., 1:-1], downsample2d(x, LOW_PASS, 2))


@pytest.mark.parametrize("f", FILTERS)
def test_padding_of_the_wrappers_centers_the_filter(f: str) -> None:
    x, taps = torch.randn(1, 1, 7, 6), FILTERS[f]
    fw, fh = (1, 1) if taps is None else (taps.shape[-1], taps.shape[0])
    pads = [fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2]
    assert_close(filter2d(x, taps, gain=2), upfirdn2d(x, taps, padding=pads, gain=2))
    for up in (2, 3):
        pads = [(fw + up - 1) // 2, (fw - up) // 2, (fh + up - 1) // 2, (fh - up) // 2]
        expected = upfirdn2d(x, taps, up=up, padding=pads, gain=3 * up**2)
        assert_close(upsample2d(x, taps, up, gain=3), expected)
    for down in (2, 3):
        pads = [(fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2]
        expected = upfirdn2d(x, taps, down=down, padding=pads, gain=3)
        assert_close(downsample2d(x, taps, down, gain=3), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kwargs", DERIVATIVE_CASES[:6], ids=str)
def test_keeps_dtype_and_memory_format(kwargs: dict[str, Any], dtype: torch.dtype) -> None:
    kwargs = {**kwargs, "f": FILTERS[kwargs["f"]]}
    x = torch.randn(2, 3, 5, 6).to(dtype)
    y = upfirdn2d(x.contiguous(memory_format=torch.channels_last), **kwargs)
    assert y.dtype == dtype
    assert y.stride(1) == 1
    assert upfirdn2d(x, **kwargs).stride(3) <= 2  # a step of 2 where every second column is taken
    assert_close(y.float(), upfirdn2d(x.float(), **kwargs), rel={2: 2e-2, 8: 1e-6}[x.element_size()])


@pytest.mark.parametrize(
    ("f", "kwargs", "expected"),
    [
        (None, {}, [[1]]),
        (3, {}, [[1]]),
        (3, {"normalize": False, "gain": 2}, [[18]]),
        ([1, 3], {}, [[1 / 16, 3 / 16], [3 / 16, 9 / 16]]),
        ([1, 3], {"separable": True}, [0.25, 0.75]),
        ([1, 3], {"separable": True, "gain": 4}, [0.5, 1.5]),
        ([1, 3], {"gain": 4}, [[1 / 4, 3 / 4], [3 / 4, 9 / 4]]),
        ([1, 3], {"flip_filter": True, "normalize": False}, [[9, 3], [3, 1]]),
        ([[1, 2], [3, 4]], {"flip_filter": True, "normalize": False}, [[4, 3], [2, 1]]),
        (np.arange(8), {"normalize": False}, list(range(8))),
        (torch.ones(8), {"separable": False, "normalize": False}, [[1] * 8] * 8),
        ([1] * 7, {"normalize": False}, [[1] * 7] * 7),
    ],
)
def test_setup_filter(f: Any, kwargs: dict[str, Any], expected: Any) -> None:
    taps = setup_filter(f, **kwargs)
    assert taps.dtype == torch.float32
    assert_close(taps, expected)


@pytest.mark.parametrize(
    ("f", "kwargs", "message"),
    [
        (np.ones([2, 2, 2]), {}, r"f must be a number, 1D or 2D with at least one tap, got shape \[2, 2, 2\]"),
        ([], {}, r"f must .* at least one tap, got shape \[0\]"),
        ([[1, 2], [3, 4]], {"separable": True}, "separable=True needs a 1D filter, got a 2D one"),
        ([1, -1], {}, "the taps of f sum to 0 and cannot be normalized; use normalize=False"),
    ],
)
def test_bad_filters_are_refused(f: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^setup_filter: {message}$"):
        setup_filter(f, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"impl": "gpu"}, "impl must be one of auto, triton, ref, cuda, got 'gpu'"),
        ({"x": torch.zeros(3, 8, 8)}, r"x must be floating point \[N, C, H, W\], .*, got torch.float32 \[3, 8, 8\]"),
        ({"x": torch.zeros(1, 3, 8, 8).byte()}, r"x must be floating point .*, got torch.uint8 \[1, 3, 8, 8\]"),
        ({"x": torch.zeros(1, 0, 8, 8)}, r"x must be floating point .*C > 0, got torch.float32 \[1, 0, 8, 8\]"),
        ({"f": [1, 3, 3, 1]}, "f must be a tensor made by setup_filter, or None, got list"),
        ({"f": torch.ones(1, 2, 2)}, r"f must be floating point \[fh, fw\] or \[taps\], got torch.float32 \[1, 2, 2\]"),
        ({"f": torch.ones(0)}, r"f must be .*, got torch.float32 \[0\]"),
        ({"f": torch.ones(4).int()}, r"f must be .*, got torch.int32 \[4\]"),
        ({"f": torch.ones(4, device="meta")}, "f must be on the device of x, cpu, got meta"),
        ({"up": 0}, r"up must be a positive int or \[x, y\], got 0"),
        ({"up": 1.5}, "up must be .*, got 1.5"),
        ({"down": [1, -2]}, r"down must be .*, got \[1, -2\]"),
        ({"down": [1, 2, 3]}, r"down must be .*, got \[1, 2, 3\]"),
        ({"padding": [1, 2, 3]}, r"padding must be an int, \[x, y\] or \[x0, x1, y0, y1\], got \[1, 2, 3\]"),
        ({"padding": 0.5}, "padding must be .*, got 0.5"),
        ({"padding": -3}, r"the filter \[4, 4\] is larger than the padded image \[2, 2\]; pad more"),
    ],
)
def test_bad_input_is_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^upfirdn2d: {message}$"):
        upfirdn2d(**{"x": torch.zeros(1, 3, 8, 8), "f": LOW_PASS, **kwargs})


@pytest.mark.parametrize("function", [filter2d, upsample2d, downsample2d])
def test_the_wrappers_refuse_the_same(function: Any) -> None:
    with pytest.raises(ValueError, match=r"^upfirdn2d: f must be a tensor made by setup_filter, or None, got list$"):
        function(torch.zeros(1, 3, 8, 8), [1, 3, 3, 1])
    with pytest.raises(ValueError, match=r"^upfirdn2d: padding must be"):
        function(torch.zeros(1, 3, 8, 8), LOW_PASS, padding=[1, 2, 3])
