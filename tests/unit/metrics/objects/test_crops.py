from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metrics.objects.crops import CropSample, countable, cut, min_side_px, resized
from metrics.objects.protocol import Detections

IMAGE = torch.arange(3 * 40 * 60, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 40, 60)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((20, 10, 30, 14), (6, 17), (20, 31)),  # side 11 around (25, 12): from 19.5, which rounds to even, and 6.5
        ((0, 0, 10, 10), (0, 11), (0, 11)),  # moved into the image
        ((50, 30, 60, 40), (29, 40), (49, 60)),
        ((0, 0, 60, 40), (0, 40), (10, 50)),  # no larger than the image
        ((30, 20, 30.1, 20.1), (20, 21), (30, 31)),
    ],
)
def test_crops_are_squares_in_the_image(box, rows, columns):
    expected = IMAGE[:, rows[0] : rows[1], columns[0] : columns[1]]
    assert torch.equal(cut(IMAGE, torch.tensor(box, dtype=torch.float32)), expected)


def test_resampling_keeps_flat_areas_and_rounds():
    crop = torch.full((3, 7, 7), 200, dtype=torch.uint8)
    assert torch.equal(resized(crop, 24), torch.full((3, 24, 24), 200, dtype=torch.uint8))
    assert resized(crop, 7) is crop


def test_what_counts():
    boxes = torch.tensor([[0.0, 0, 10, 2], [0, 0, 10, 2], [0, 0, 7, 7]])
    found = Detections(boxes, torch.tensor([0.9, 0.39, 0.8]), torch.tensor([0, 1, 2]))
    assert countable(found, 8).labels.tolist() == [0]
    assert countable(found, 7).labels.tolist() == [0, 2]


def test_smallest_size():
    assert min_side_px(SimpleNamespace(min_side_px=20.0), 64, 128) == 20
    assert min_side_px(SimpleNamespace(min_side_px=20.0), 480, 960) == 40
    assert min_side_px(SimpleNamespace(min_side_px=0.0), 96, 128) == 8


def images(num=30):
    rng = np.random.RandomState(0)
    return [torch.from_numpy(rng.randint(0, 256, (3, 32, 32)).astype(np.uint8)) for _ in range(num)]


def boxes(index):
    rng = np.random.RandomState(index)
    corners = rng.uniform(0, 20, [rng.randint(4), 2])
    return torch.from_numpy(np.concatenate([corners, corners + 8], axis=1)).float()


def sample(indices, max_crops=10, max_side_px=240, seed=0):
    one = CropSample(max_crops, max_side_px, seed)
    for index in indices:
        one.add(index, images()[index], boxes(index))
    return one


def places(one):
    return [kept.place for kept in sorted(one.kept, reverse=True)]


def test_a_sample_depends_on_the_seed_alone():
    whole = sample(range(30))
    assert len(whole.kept) == 10
    backwards = sample(range(29, -1, -1))
    assert places(backwards) == places(whole)
    assert all(map(torch.equal, whole.best(10), backwards.best(10)))
    assert places(sample(range(30), seed=1)) != places(whole)


def test_processes_together_draw_the_same_sample():
    joined = sample(range(0, 30, 2))
    joined.merge([sample([*range(1, 30, 2), 0, 2])])  # two images come twice
    assert places(joined) == places(sample(range(30)))


def test_part_of_a_sample_is_a_smaller_sample():
    whole = sample(range(30))
    assert all(map(torch.equal, whole.best(4), sample(range(30), max_crops=4).best(4)))
    assert len(whole.best(100)) == 10


def test_large_crops_are_kept_at_the_size_that_they_will_have():
    assert {one.shape[-1] for one in sample(range(30)).best(10)} == {9}
    assert {one.shape[-1] for one in sample(range(30), max_side_px=5).best(10)} == {5}
