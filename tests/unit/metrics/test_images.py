"""Batches of images carry their indices, in every process its own."""

import numpy as np
import pytest

from dnnlib.object_names import construct_class_by_name
from metrics.generated import generate_batch
from metrics.images import generated_images, real_images
from metrics.options import MetricOptions
from tests.unit.metrics import tiny


def options(real, **changes):
    return MetricOptions(dataset_kwargs=real, device="cpu", batch_size=3, **changes)


@pytest.mark.parametrize("rank", [0, 1])
def test_real_images_come_with_their_indices(real, rank):
    dataset = construct_class_by_name(**real)
    with real_images(options(real, num_gpus=2, rank=rank), max_items=9) as images:
        batches = list(images.batches)
    assert images.num_items == 9
    assert [batch.indices for batch in batches] == [[[0, 2, 4], [6, 8]], [[1, 3, 5], [7, 0]]][rank]
    for indices, batch in batches:
        np.testing.assert_array_equal(batch, np.stack([dataset[index][0] for index in indices]))


def test_generated_images_come_with_their_indices(real):
    opts = options(real, G=tiny.generator(), seed=3)
    with generated_images(opts, max_items=4) as images:
        batches = list(images.batches)
    assert images.dataset is None
    assert [batch.indices for batch in batches] == [[0, 1, 2], [3]]
    for indices, batch in batches:
        np.testing.assert_array_equal(batch, generate_batch(opts.G, indices, 3, None, opts.device))
