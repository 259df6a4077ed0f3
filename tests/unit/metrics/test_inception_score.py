import numpy as np
import pytest

from metrics.inception_score import compute_is, inception_score
from metrics.metric_utils import MetricOptions
from tests.helpers import assert_close, case_id, golden_cases
from tests.unit.metrics import tiny


@pytest.mark.parametrize("case", list(golden_cases("metrics")), ids=case_id)
def test_golden_value(case):
    args, arrays = case
    mean, std = inception_score(arrays["probs"], args["isc"]["num_splits"])
    assert_close(mean, arrays["is_mean"])
    assert_close(std, arrays["is_std"])


def test_equal_predictions_score_one():
    assert_close(inception_score(np.full([12, 5], 0.2), num_splits=3), (1.0, 0.0), 1e-12)


def test_certain_and_balanced_predictions_score_the_number_of_classes():
    probs = np.eye(4)[np.arange(16) % 4]
    assert_close(inception_score(probs, num_splits=2), (4.0, 0.0), 1e-12)


def test_refuses_fewer_images_than_splits():
    with pytest.raises(ValueError, match="needs at least 10 images, got 9"):
        inception_score(np.full([9, 2], 0.5))


def test_streamed_images(tiny_weights):
    mean, std = compute_is(MetricOptions(G=tiny.generator(), device="cpu"), 20, 2, detector_url=tiny.NAME)
    assert 1 < mean < tiny.NUM_FEATURES
    assert std > 0
