import numpy as np
import pytest
import scipy.linalg

from metrics import frechet_inception_distance
from metrics.frechet_inception_distance import (
    Gaussian,
    compute_fid,
    frechet_distance,
    gaussian_from_features,
    gaussian_from_moments,
)
from metrics.metric_utils import MetricOptions, compute_feature_stats_for_dataset, compute_feature_stats_for_generator
from tests.helpers import assert_close, case_id, golden_cases
from tests.unit.metrics import tiny

REL_FLOAT64 = 1e-10


def features(num_items, num_features, seed=0, shift=0.0):
    rng = np.random.RandomState(seed)
    return rng.randn(num_items, num_features) @ rng.randn(num_features, num_features) + shift


def distance_by_square_root(x, y):
    """The distance as the paper writes it, with a matrix square root."""
    cov_x, cov_y = np.cov(x, rowvar=False, bias=True), np.cov(y, rowvar=False, bias=True)
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(cov_x + cov_y - 2 * root)


@pytest.mark.parametrize("case", list(golden_cases("metrics")), ids=case_id)
def test_golden_value(case):
    arrays = case[1]
    real, gen = gaussian_from_features(arrays["real"]), gaussian_from_features(arrays["gen"])
    assert_close(frechet_distance(real, gen), arrays["fid"], REL_FLOAT64)


def test_agrees_with_the_matrix_square_root():
    x, y = features(60, 5), features(50, 5, seed=1, shift=2.0)
    distance = frechet_distance(gaussian_from_features(x), gaussian_from_features(y))
    assert_close(distance, distance_by_square_root(x, y), REL_FLOAT64)


def test_closed_form_of_independent_coordinates():
    mean_x, mean_y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, -1.0])
    std_x, std_y = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.0])
    x, y = gaussian_from_moments(mean_x, np.diag(std_x**2)), gaussian_from_moments(mean_y, np.diag(std_y**2))
    expected = np.square(mean_x - mean_y).sum() + np.square(std_x - std_y).sum()
    assert_close(frechet_distance(x, y), expected, REL_FLOAT64)


def test_moments_and_features_give_the_same_gaussian():
    x = features(40, 5)
    by_moments = gaussian_from_moments(x.mean(0), np.cov(x, rowvar=False, bias=True))
    by_features = gaussian_from_features(x)
    assert_close(by_features.mean, by_moments.mean, REL_FLOAT64)
    assert_close(by_features.factor.T @ by_features.factor, by_moments.factor.T @ by_moments.factor, REL_FLOAT64)


@pytest.mark.parametrize(("num_x", "num_y"), [(7, 9), (7, 60), (60, 7)])
def test_fewer_items_than_features(num_x, num_y):
    x, y = features(num_x, 20), features(num_y, 20, seed=1, shift=1.0)
    full = [gaussian_from_moments(z.mean(0), np.cov(z, rowvar=False, bias=True)) for z in (x, y)]
    small = [gaussian_from_features(z) for z in (x, y)]
    assert min(len(gaussian.factor) for gaussian in small) == 7
    assert_close(frechet_distance(*small), frechet_distance(*full), 1e-7)


def test_equal_sets_are_at_distance_zero():
    gaussian = gaussian_from_features(features(40, 5))
    assert abs(frechet_distance(gaussian, gaussian)) <= REL_FLOAT64 * np.square(gaussian.factor).sum()


def test_one_item_has_no_spread():
    x, y = Gaussian(np.zeros(2), np.zeros([1, 2])), gaussian_from_features(np.array([[3.0, 4.0]]))
    assert frechet_distance(x, y) == 25


@pytest.mark.parametrize("num", [tiny.NUM_FEATURES - 2, 20])
def test_streamed_images(num, real, tiny_weights, monkeypatch):
    if num < tiny.NUM_FEATURES:
        monkeypatch.delattr(frechet_inception_distance, "gaussian_from_moments")
    opts = MetricOptions(G=tiny.generator(), dataset_kwargs=real, device="cpu")
    fid = compute_fid(opts, max_real=num, num_gen=num, detector_url=tiny.NAME)
    all_features = {"detector_url": tiny.NAME, "detector_kwargs": {"return_features": True}, "capture_all": True}
    real_stats = compute_feature_stats_for_dataset(opts, max_items=num, **all_features)
    gen_stats = compute_feature_stats_for_generator(opts, max_items=num, **all_features)
    expected = frechet_distance(*(gaussian_from_features(stats.get_all()) for stats in (real_stats, gen_stats)))
    assert expected > 0.01
    assert_close(fid, expected, 1e-8)
