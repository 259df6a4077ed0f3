from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from torch_utils import training_stats
from training.ada import AdaptiveAugmentation

BATCH_SIZE, INTERVAL, ADA_KIMG = 64, 4, 500
STEP = 64 * 4 / 500_000


def make_ada(p: float = 0.5, **kwargs: Any) -> tuple[AdaptiveAugmentation, torch.Tensor]:
    probability = torch.tensor(p)
    settings = {"target": 0.6, "interval": INTERVAL, "batch_size": BATCH_SIZE, "ada_kimg": ADA_KIMG, "max_p": 1.0}
    return AdaptiveAugmentation(probability, **{**settings, **kwargs}), probability


def report(share_positive: float) -> None:
    """Signs of 100 real logits."""
    num = round(share_positive * 100)
    training_stats.report("Loss/signs/real", [1] * num + [-1] * (100 - num))


@pytest.mark.parametrize(
    ("share_positive", "direction"), [(1, 1), (0.9, 1), (0.81, 1), (0.8, 0), (0.79, -1), (0.5, -1), (0, -1)]
)
def test_p_moves_towards_the_target(share_positive: float, direction: int) -> None:
    """80 % positive logits have the mean sign 0.6."""
    ada, p = make_ada(p=0.5)
    report(share_positive)
    ada.update(batch_idx=INTERVAL)
    assert p.item() == pytest.approx(0.5 + direction * STEP, abs=1e-7)
    assert (p.shape, p.dtype) == ((), torch.float32)


@pytest.mark.parametrize(
    ("p", "max_p", "share_positive", "expected"),
    [
        (0.0, 1.0, 0, 0),
        (STEP / 2, 1.0, 0, 0),
        (1.0, 1.0, 1, 1),
        (1 - STEP / 2, 1.0, 1, 1),
        (0.7, 0.7, 1, 0.7),
        (1.0, math.inf, 1, 1 + STEP),
        (0.8, 0.7, 0, 0.7),
    ],
)
def test_p_stays_within_its_bounds(p: float, max_p: float, share_positive: float, expected: float) -> None:
    ada, value = make_ada(p, max_p=max_p)
    report(share_positive)
    ada.update(batch_idx=0)
    assert value.item() == pytest.approx(expected, abs=1e-7)


def test_it_acts_every_so_many_iterations_on_all_logits_since() -> None:
    ada, p = make_ada(p=0.5)
    for batch_idx, share_positive in enumerate([0, 1, 1, 1, 1, 0, 0, 0, 0], start=0):
        report(share_positive)
        ada.update(batch_idx)
        # First on the iteration 0 alone, down; then on 1 to 4, up; then on 5 to 8, down.
        expected = 0.5 - STEP if batch_idx < 4 else 0.5 if batch_idx < 8 else 0.5 - STEP
        assert p.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("batch_size", "interval", "ada_kimg"), [(8, 1, 500), (64, 4, 100), (32, 16, 20)])
def test_p_can_go_from_0_to_1_in_so_many_images(batch_size: int, interval: int, ada_kimg: int) -> None:
    ada, p = make_ada(p=0.0, batch_size=batch_size, interval=interval, ada_kimg=ada_kimg)
    num_updates = 10
    for k in range(num_updates):
        report(1)
        ada.update(k * interval)
    assert p.item() == pytest.approx(num_updates * interval * batch_size / (ada_kimg * 1000), rel=1e-5)


def test_without_numbers_p_stays() -> None:
    """A NaN in p would disable augmentation, or break it, for the rest of the run."""
    ada, p = make_ada(p=0.5)
    ada.update(batch_idx=0)
    assert p.item() == 0.5
    training_stats.report("Loss/signs/real", [float("nan")] * 4)
    ada.update(batch_idx=INTERVAL)
    assert p.item() == 0.5
    report(1)
    ada.update(batch_idx=2 * INTERVAL)
    assert p.item() == pytest.approx(0.5 + STEP, abs=1e-7)


def test_its_state_continues_a_round() -> None:
    ada, p = make_ada(p=0.5)
    report(1)
    other, other_p = make_ada(p=0.5)
    other.load_state_dict(ada.state_dict())
    ada.update(batch_idx=INTERVAL)
    other.update(batch_idx=INTERVAL)
    assert other_p.item() == p.item() == pytest.approx(0.5 + STEP, abs=1e-7)
