"""Measurements on images made to be alike, copied, or augmented."""

import numpy as np
import pytest

from training.run.health.history import DIVERSITY, LEAK, NEAREST_REAL
from training.run.health.samples import SampleMeter, shrink, to_range


def images(num, seed, side=32):
    """Smooth random images with dark tops: uint8 [num, 3, side, side]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, [num, 3, side // 8, side // 8])
    shade = np.linspace(-50, 50, side)[:, np.newaxis]
    return (coarse.repeat(8, axis=2).repeat(8, axis=3) + shade).astype(np.uint8)


REALS = images(100, seed=0)
METER = SampleMeter([(image, None) for image in REALS], REALS)


def test_images_like_the_real_ones():
    found = METER.measure(to_range(images(100, seed=1)), augment=np.negative)
    assert found[DIVERSITY] == pytest.approx(1, abs=0.05)
    assert found[NEAREST_REAL] == pytest.approx(1, abs=0.05)
    assert found[LEAK] > 3


def test_real_images_are_taken_as_they_come_not_the_darkest_first():
    def half_of_them_dark(seed):
        img = images(512, seed)
        img[::2] = img[::2] // 16
        return img

    reals = half_of_them_dark(seed=0)
    meter = SampleMeter([], reals)
    assert meter.measure(to_range(half_of_them_dark(seed=1)))[DIVERSITY] == pytest.approx(1, abs=0.1)
    repeated = SampleMeter([], reals.repeat(2, axis=0)[:512])
    assert repeated.measure(to_range(half_of_them_dark(seed=1)))[DIVERSITY] == pytest.approx(1, abs=0.1)


def test_a_few_modes():
    few = to_range(images(4, seed=1)).repeat(25, axis=0)
    found = METER.measure(few + np.random.default_rng(0).normal(0, 0.01, few.shape).astype(np.float32))
    assert found[DIVERSITY] < 0.05
    assert found[NEAREST_REAL] > 0.9


def test_copies_of_training_images():
    found = METER.measure(to_range(REALS) + 0.01)
    assert found[NEAREST_REAL] < 0.05
    assert found[DIVERSITY] == pytest.approx(1)


def test_the_mean_image_copies_none():
    mean = np.broadcast_to(to_range(REALS).mean(axis=0), REALS.shape)
    found = METER.measure(mean)
    assert found[DIVERSITY] == 0
    assert 0.6 < found[NEAREST_REAL] < 0.9


def test_samples_like_augmented_images():
    def flip(img):
        return img[:, :, ::-1] * 0.5 + 0.3

    assert METER.measure(flip(to_range(images(100, seed=1))), flip)[LEAK] < 0.3


def test_what_cannot_be_measured_is_left_out():
    same = np.repeat(REALS[:1], 5, axis=0)
    assert SampleMeter([(image, None) for image in same], same).measure(to_range(REALS)) == {}
    large = SampleMeter(range(2001), REALS)  # is not read
    assert large.measure(to_range(REALS)).keys() == {DIVERSITY}


def test_shrinking_averages():
    img = np.arange(32 * 32, dtype=np.float32).reshape(1, 1, 32, 32) / 1024
    assert shrink(img)[0, 0] == pytest.approx(img[0, 0, :2, :2].mean())
    assert shrink(img).shape == (1, 256)
    assert shrink(img[:, :, :8, :8])[0] == pytest.approx(img[0, 0, :8, :8].ravel())
    assert shrink(np.full([1, 1, 4, 4], 7, np.float32)).max() == 1
