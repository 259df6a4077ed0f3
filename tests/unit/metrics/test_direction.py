"""Which way scores are read."""

import pytest

from metrics.direction import is_higher_better


@pytest.mark.parametrize("score", ["pr5k_efflite1_recall", "pr50k3_full_precision", "is50k_mean"])
def test_higher_is_better(score):
    assert is_higher_better(score) is True


@pytest.mark.parametrize(
    "score", ["fid50k_full", "fd1k_efflite1", "kd5k_efflite1", "ppl2_wend", "okd2k_car", "objects2k"]
)
def test_lower_is_better(score):
    assert is_higher_better(score) is False


@pytest.mark.parametrize("score", ["okd2k_car_real_per_image", "objects2k_bus_fake_per_image"])
def test_neither(score):
    assert is_higher_better(score) is None
