import numpy as np
import pytest

from metrics.kernel_inception_distance import compute_kid, kernel_distance, squared_mmd
from metrics.metric_utils import MetricOptions
from tests.helpers import assert_close, case_id, golden_cases
from tests.unit.metrics import tiny


def naive_squared_mmd(x, y):
    """Eq. 3 of the paper, pair by pair."""
    num, num_features = x.shape

    def mean_kernel(a, b, with_diagonal):
        pairs = [(i, j) for i in range(num) for j in range(num) if with_diagonal or i != j]
        return sum((a[i] @ b[j] / num_features + 1) ** 3 for i, j in pairs) / len(pairs)

    return mean_kernel(x, x, False) + mean_kernel(y, y, False) - 2 * mean_kernel(x, y, True)


@pytest.mark.parametrize("case", list(golden_cases("metrics")), ids=case_id)
def test_golden_value(case):
    args, arrays = case
    settings = dict(args["kid"])
    rng = np.random.RandomState(settings.pop("np_random_seed"))
    assert_close(kernel_distance(arrays["real"], arrays["gen"], **settings, rng=rng), arrays["kid"])


def test_agrees_with_the_sum_over_pairs():
    rng = np.random.RandomState(0)
    x, y = rng.randn(9, 4), rng.randn(9, 4) + 0.5
    assert_close(squared_mmd(x, y), naive_squared_mmd(x, y), 1e-12)


def test_has_no_bias():
    rng = np.random.RandomState(0)
    estimates = [squared_mmd(rng.randn(5, 2), rng.randn(5, 2)) for _ in range(3000)]
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(len(estimates))


def test_subsets_are_no_larger_than_the_sets():
    x, y = np.random.RandomState(0).randn(2, 8, 3)
    distance = kernel_distance(x, y, num_subsets=2, max_subset_size=1000, rng=np.random.RandomState(0))
    assert_close(distance, squared_mmd(x, y), 1e-12)


def test_refuses_single_items():
    with pytest.raises(ValueError, match="2 items in each set, got 1 real and 5 generated"):
        kernel_distance(np.zeros([1, 3]), np.zeros([5, 3]), 1, 10, np.random.RandomState(0))


def test_seed_decides_the_subsets(real, tiny_weights):
    def kid(seed):
        opts = MetricOptions(dataset_kwargs=real, gen_dataset_kwargs=real, device="cpu", seed=seed)
        return compute_kid(opts, None, 20, num_subsets=5, max_subset_size=10, detector_url=tiny.NAME)

    assert kid(0) == kid(0) != kid(1)
