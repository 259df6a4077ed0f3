"""Kernels run in Triton's interpreter and are compared with the definition in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers import assert_close
from torch_utils.ops import conv2d_gradfix, demodulation
from torch_utils.ops.demodulation import demodulation_coefficients

SIZES = [(2, 5, 3, 3), (1, 1, 1, 1), (17, 130, 18, 1)]
"""N, I, O and the side of the kernel: within one block, a single number, several blocks in each direction."""


def tensors(num: int, num_in: int, num_out: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and styles."""
    return torch.randn(num_out, num_in, size, size), torch.randn(num, num_in) + 1


def image(dtype: torch.dtype, channels_last: bool = False) -> torch.Tensor:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.zeros(2, 5, 4, 4, dtype=dtype).contiguous(memory_format=memory_format)


def definition(weight: torch.Tensor, styles: torch.Tensor, normalize: bool) -> tuple[torch.Tensor, ...]:
    """Weights, styles and coefficients, with weights per sample, by the formula; factors are constants."""
    if normalize:
        largest = weight.detach().abs().amax([1, 2, 3], keepdim=True)
        weight = weight / (largest * weight[0].numel() ** 0.5)
        styles = styles / styles.detach().abs().amax(1, keepdim=True)
    modulated = weight[None] * styles[:, None, :, None, None]
    return weight, styles, 1 / (modulated.square().sum([2, 3, 4]) + 1e-8).sqrt()


def derivatives(function: Any, *args: torch.Tensor) -> list[torch.Tensor]:
    """Results, their gradients for fixed random directions, and the gradients of those."""
    leaves = [arg.detach().clone().requires_grad_() for arg in args]
    rng = torch.Generator().manual_seed(1)
    results = function(*leaves)
    directions = [torch.randn(r.shape, generator=rng).half().to(r.device, r.dtype) for r in results]
    first_order = torch.autograd.grad(results, leaves, directions, retain_graph=True)
    gradients = torch.autograd.grad(results, leaves, directions, create_graph=True)
    directions = [torch.randn(g.shape, generator=rng).to(g.device, g.dtype) for g in gradients]
    return [*results, *first_order, *torch.autograd.grad(gradients, leaves, directions)]


def assert_matches_the_definition(weight: torch.Tensor, styles: torch.Tensor, x: torch.Tensor, **kwargs: Any) -> None:
    half = x.dtype == torch.float16
    expected = derivatives(lambda *args: definition(*args, normalize=half), weight.double(), styles.double())
    actual = derivatives(lambda *args: demodulation_coefficients(*args, x, **kwargs), weight, styles)
    for i, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        rounding = 1e-3 if half and i in (0, 3) else 3e-6  # float16 weights, and the gradient that they get
        assert_close(ours.double(), theirs, rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernels_match_the_definition(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_matches_the_definition(*tensors(*sizes), image(dtype), impl="triton")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_have_the_layout_of_the_convolution(dtype: torch.dtype, channels_last: bool, transposed: bool) -> None:
    weight, styles = tensors(2, 5, 3, 3)
    x = image(dtype, channels_last)
    prepared, scaled, dcoefs = demodulation_coefficients(weight, styles, x, transposed, impl="triton")
    given = prepared.transpose(0, 1) if transposed else prepared
    assert given.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert (prepared.dtype, scaled.dtype, dcoefs.dtype) == (dtype, torch.float32, torch.float32)
    if dtype != torch.bfloat16:
        assert_matches_the_definition(weight, styles, x, transposed=transposed, impl="triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_zeros_give_finite_numbers(dtype: torch.dtype) -> None:
    for impl in ("triton", "ref"):
        results = demodulation_coefficients(torch.zeros(3, 5, 3, 3), torch.zeros(2, 5), image(dtype), impl=impl)
        assert all(result.isfinite().all() for result in results)
        assert (results[2] == 1e4).all()


@pytest.mark.parametrize("impl", ["triton", "ref"])
def test_an_empty_batch(impl: str) -> None:
    weight, styles = (each.requires_grad_() for each in tensors(0, 5, 3, 3))
    _, scaled, dcoefs = demodulation_coefficients(weight, styles, image(torch.float16), impl=impl)
    (scaled.sum() + dcoefs.sum()).backward()
    assert (scaled.shape, dcoefs.shape, styles.grad.shape) == ((0, 5), (0, 3), (0, 5))
    assert not weight.grad.any()


@pytest.mark.parametrize("transposed", [False, True])
def test_derivatives(transposed: bool) -> None:
    weight, styles = (each.double().requires_grad_() for each in tensors(2, 2, 2, 2))

    def function(weight: torch.Tensor, styles: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return demodulation_coefficients(weight, styles, image(torch.float64, channels_last=True), transposed)

    assert gradcheck(function, (weight, styles))
    assert gradgradcheck(function, (weight, styles))


def test_factors_cancel() -> None:
    """The layer as a whole does not depend on the factors, which is why derivatives may take them for constants."""
    weight, styles = tensors(2, 5, 3, 3)

    def layer(dtype: torch.dtype) -> list[torch.Tensor]:
        def function(*args: torch.Tensor) -> list[torch.Tensor]:
            weight, styles, dcoefs = demodulation_coefficients(*args, image(dtype), impl="triton")
            return [weight.float()[None] * styles[:, None, :, None, None] * dcoefs[:, :, None, None, None]]

        return derivatives(function, weight, styles)

    for half, exact in zip(layer(torch.float16), layer(torch.float32), strict=True):
        assert_close(half, exact, 2e-3)


def test_without_weight_gradients_there_is_none() -> None:
    weight, styles = (each.requires_grad_() for each in tensors(2, 5, 3, 3))

    def gradients() -> tuple[torch.Tensor | None, torch.Tensor]:
        dcoefs = demodulation_coefficients(weight, styles, image(torch.float32), impl="triton")[2]
        return torch.autograd.grad(dcoefs.sum(), [weight, styles], create_graph=True, allow_unused=True)

    with conv2d_gradfix.no_weight_gradients():
        none, within = gradients()
    assert none is None
    (expected,) = torch.autograd.grad(gradients()[1].square().sum(), weight)
    (actual,) = torch.autograd.grad(within.square().sum(), weight)  # complete, being computed outside
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("needed", ["weight", "styles"])
def test_only_what_is_needed_gets_a_gradient(needed: str) -> None:
    args = dict(zip(("weight", "styles"), tensors(2, 5, 3, 3), strict=True))
    args[needed].requires_grad_()
    demodulation_coefficients(**args, x=image(torch.float32), impl="triton")[2].sum().backward()
    assert {name for name, arg in args.items() if arg.grad is not None} == {needed}


def test_bad_input_is_named() -> None:
    weight, styles = tensors(2, 5, 3, 3)
    for args in [(weight, styles[:, :4]), (weight[0], styles), (weight, styles[0])]:
        with pytest.raises(
            ValueError, match=r"^demodulation_coefficients: weight must have shape .*, got \[.*\] and \["
        ):
            demodulation_coefficients(*args, image(torch.float32))
    with pytest.raises(ValueError, match=r"^demodulation_coefficients: impl must be one of auto, .*, got 'cpu'$"):
        demodulation_coefficients(weight, styles, image(torch.float32), impl="cpu")


@pytest.mark.parametrize("num", [2, 0])
def test_operators_are_what_compilers_are_told(num: int) -> None:
    weight, styles = tensors(num, 5, 3, 3)
    for normalize in (False, True):
        results = demodulation._demodulation(weight, styles, normalize, kernel=True)
        scaled, dcoefs, power, weight_factor, style_factor = results
        calls = {
            "demodulation": (weight, styles, normalize),
            "weight_grad": (weight.flatten(2), dcoefs, power, weight, weight_factor, scaled, dcoefs),
            "styles_grad": (scaled, dcoefs, style_factor, scaled, dcoefs, power),
        }
        for name, args in calls.items():
            torch.library.opcheck(getattr(torch.ops.mscond, name), args, test_utils=("test_schema", "test_faketensor"))
            ours, theirs = (getattr(demodulation, f"_{name}")(*args, kernel=kernel) for kernel in (True, False))
            pairs = zip(ours, theirs, strict=True) if name == "demodulation" else [(ours, theirs)]
            for our, their in pairs:
                assert_close(our, their, 1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", [*SIZES, (8, 512, 512, 3), (64, 64, 128, 3)], ids=str)
def test_on_a_gpu(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    weight, styles = (each.cuda() for each in tensors(*sizes))
    for transposed in (False, True):
        assert_matches_the_definition(weight, styles, image(dtype, channels_last=True).cuda(), transposed=transposed)
