import numpy as np
import pytest
import torch

from metrics.metric_utils import MetricOptions
from metrics.precision_recall import compute_pr, precision_recall
from tests.helpers import case_id, golden_cases
from tests.unit.metrics import tiny


def naive_precision_recall(real, gen, nhood_size):
    """Eq. 1 and 2 of the paper in float64, item by item."""
    real, gen = (x.half().double().numpy() for x in (real, gen))

    def share_inside(items, manifold):
        radii = [np.sort(np.linalg.norm(manifold - center, axis=1))[nhood_size] for center in manifold]
        return np.mean([(np.linalg.norm(manifold - item, axis=1) <= radii).any() for item in items])

    return share_inside(gen, real), share_inside(real, gen)


@pytest.mark.parametrize("block_size", [7, 4096])
@pytest.mark.parametrize("case", list(golden_cases("metrics")), ids=case_id)
def test_golden_value(case, block_size):
    args, arrays = case
    real, gen = torch.from_numpy(arrays["real"]), torch.from_numpy(arrays["gen"])
    precision, recall = precision_recall(real, gen, args["pr"]["nhood_size"], block_size)
    # The golden shares are float32 numbers.
    assert np.float32(precision) == arrays["precision"]
    assert np.float32(recall) == arrays["recall"]


@pytest.mark.parametrize(("nhood_size", "constant_feature"), [(1, 0.0), (3, 0.0), (3, 1000.0)])
def test_agrees_with_the_definition(nhood_size, constant_feature):
    real, gen = torch.randn(50, 3), 1.5 * torch.randn(40, 3) + 0.5
    real[:, 0] = gen[:, 0] = constant_feature
    assert precision_recall(real, gen, nhood_size, block_size=16) == naive_precision_recall(real, gen, nhood_size)


def test_hand_made_line():
    real, gen = torch.tensor([[0.0], [1.0], [2.0], [10.0]]), torch.tensor([[0.5], [3.5], [30.0]])
    # Radii to the nearest neighbor: real 1, 1, 1, 8; generated 3, 3, 26.5.
    assert precision_recall(real, gen, nhood_size=1) == (2 / 3, 1.0)


def test_features_are_rounded_to_float16():
    real, gen = torch.tensor([[2048.0], [2049.0]]), torch.tensor([[2049.9], [2049.8]])
    # In float16 numbers of this size are even: the real ones become equal, the generated ones 2050.
    assert precision_recall(real, gen, nhood_size=1) == (0.0, 0.0)


def test_extremes():
    x = torch.randn(20, 4)
    assert precision_recall(x, x) == (1.0, 1.0)
    assert precision_recall(x, x + 1000) == (0.0, 0.0)


def test_refuses_too_few_neighbors():
    with pytest.raises(ValueError, match="need more than 3 images per set, got 3 real and 9 generated"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))


def test_streamed_images(real, tiny_weights):
    opts = MetricOptions(dataset_kwargs=real, gen_dataset_kwargs=real, device="cpu")
    assert compute_pr(opts, max_real=None, num_gen=100, detector_url=tiny.NAME) == (1.0, 1.0)
