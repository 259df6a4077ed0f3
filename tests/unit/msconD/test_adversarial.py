"""Multi-scale terms against closed forms on constant maps and on a linear discriminator."""

from __future__ import annotations

import math

import pytest
import torch

from msconD import adversarial

EQUAL = {1: 1 / 3, 8: 1 / 3, 16: 1 / 3}
Logits = dict[int, torch.Tensor]


def constant_logits(*values: float, num: int = 2) -> Logits:
    shapes = {1: (num, 1), 8: (num, 1, 8, 8), 16: (num, 1, 16, 16)}
    return {h: torch.full(shape, float(value)) for (h, shape), value in zip(shapes.items(), values, strict=True)}


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def total(logits: Logits, weights: dict[int, float], term: str) -> torch.Tensor:
    return adversarial.weighted_sum(adversarial.scale_means(logits, getattr(adversarial, term)), weights)


def test_weights_sum_to_one() -> None:
    assert adversarial.scale_weights([1, 8, 16], None) == EQUAL
    assert adversarial.scale_weights([1, 8], [3, 1]) == {1: 0.75, 8: 0.25}


def test_constant_maps() -> None:
    logits, weights = constant_logits(-1.0, 0.5, 2.0), {1: 0.5, 8: 0.3, 16: 0.2}
    for term, sign in (("real_loss", -1), ("fake_loss", 1)):
        expected = 0.5 * softplus(sign * -1.0) + 0.3 * softplus(sign * 0.5) + 0.2 * softplus(sign * 2.0)
        found = total(logits, weights, term)
        assert found.shape == (2, 1)
        assert torch.allclose(found, torch.full((2, 1), expected))


def test_undecided_discriminator() -> None:
    logits = constant_logits(0, 0, 0)
    for scales in ([1], [1, 8], [1, 8, 16]):
        some = {h: logits[h] for h in scales}
        weights = {h: 1 / len(scales) for h in scales}
        assert torch.allclose(total(some, weights, "real_loss"), torch.full((2, 1), 0.693147))
        both = total(some, weights, "real_loss") + total(some, weights, "fake_loss")
        assert torch.allclose(both, torch.full((2, 1), 1.386294))


def test_a_large_map_does_not_outvote_a_small_one() -> None:
    means = adversarial.scale_means(constant_logits(3.0, 0.0, 0.0), lambda x: x)
    assert torch.allclose(adversarial.weighted_sum(means, EQUAL), torch.tensor(1.0))


def linear_logits(img: torch.Tensor, filters: dict[int, torch.Tensor]) -> Logits:
    """D^h_hw = <a_hw, img> with filters a of [h * h, pixels]."""
    maps = {h: (img.flatten(1) @ a.T)[:, None].unflatten(2, (h, h)) for h, a in filters.items()}
    return {h: x.flatten(1) if h == 1 else x for h, x in maps.items()}


def r1(filters: dict[int, torch.Tensor], weights: dict[int, float], mode: str, num: int = 1) -> torch.Tensor:
    """Squared gradient norms of ``num`` images."""
    img = torch.randn(num, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    score = adversarial.r1_score(linear_logits(img, filters), weights, mode)
    assert score.shape == (num, 1)
    (grad,) = torch.autograd.grad(score.sum(), img)
    return grad.square().sum([1, 2, 3])


@pytest.fixture
def filters() -> dict[int, torch.Tensor]:
    return {h: torch.randn(h * h, 12, dtype=torch.float64) for h in (1, 2, 4)}


WEIGHTS = {1: 0.5, 2: 0.3, 4: 0.2}


def test_r1_of_the_mean(filters: dict[int, torch.Tensor]) -> None:
    expected = sum(WEIGHTS[h] * a.mean(0) for h, a in filters.items()).square().sum()
    assert torch.allclose(r1(filters, WEIGHTS, "mean"), expected)


def test_r1_of_random_signs_is_unbiased(filters: dict[int, torch.Tensor]) -> None:
    expected = sum(WEIGHTS[h] * a.square().sum(1).mean() for h, a in filters.items())
    found = r1(filters, WEIGHTS, "rademacher", num=20_000)
    assert abs(found.mean() - expected) < 4 * found.std() / len(found) ** 0.5
    assert found.std() / expected < 1.5


def test_r1_of_the_global_logit(filters: dict[int, torch.Tensor]) -> None:
    assert torch.allclose(r1(filters, WEIGHTS, "global"), filters[1].square().sum())


@pytest.mark.parametrize("mode", ["mean", "rademacher", "global"])
def test_one_scale_is_stylegan2(mode: str) -> None:
    logits = {1: torch.randn(5, 1)}
    state = torch.get_rng_state()
    assert torch.equal(adversarial.r1_score(logits, {1: 1.0}, mode), logits[1])
    assert torch.equal(torch.get_rng_state(), state)
    for term, sign in (("real_loss", -1), ("fake_loss", 1)):
        assert torch.equal(total(logits, {1: 1.0}, term), torch.nn.functional.softplus(sign * logits[1]))
