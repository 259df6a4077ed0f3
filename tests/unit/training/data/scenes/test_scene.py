import hashlib
import json

import numpy as np
import pytest

from training.data.scenes.canvas import Canvas
from training.data.scenes.objects import DRAW
from training.data.scenes.scene import scene

NUM = 60

SHA256 = {
    (0, 0, 16): ("9fb4ad56ce862609", "05980173876af50f"),
    (3, 5, 16): ("dd38436b38c5be74", "c1c95cb344cabada"),
    (7, 11, 16): ("0453006193bb5246", "e43ce6423fc9d213"),
    (0, 0, 64): ("435eec7a726db288", "0d784a3eff8cfe2b"),
    (3, 5, 64): ("6e0717ec073d8a26", "0be52286866d9c3e"),
    (7, 11, 64): ("aa870146785a148e", "76ccf94e96f1914b"),
    (0, 0, 256): ("7579fceb3c0b670f", "cbba32eb657eb23d"),
    (3, 5, 256): ("a5c1917f34720346", "2b3aee86fa2cb601"),
    (7, 11, 256): ("171ac50dd1d79a72", "6b8be09a66950ff1"),
}
"""First digits of the hashes of the pixels and of the objects, by seed, index and size: datasets never change."""


@pytest.fixture(scope="module")
def scenes():
    return [scene(0, index, 64) for index in range(NUM)]


@pytest.fixture(scope="module")
def images(scenes):
    return np.array([image for image, _ in scenes]).astype(np.float64)


def box_reduce(image, factor):
    n = len(image) // factor
    return image.reshape(n, factor, n, factor, 3).mean(axis=(1, 3))


def test_same_seed_and_index_give_the_same_bytes():
    (image, objects), (again, objects_again) = scene(3, 5, 64), scene(3, 5, 64)
    assert image.tobytes() == again.tobytes()
    assert objects == objects_again


@pytest.mark.parametrize(("seed", "index", "size_px"), SHA256)
def test_scenes_are_those_of_earlier_versions(seed, index, size_px):
    image, objects = scene(seed, index, size_px)
    hashes = [hashlib.sha256(data).hexdigest()[:16] for data in (image.tobytes(), json.dumps(objects).encode())]
    assert tuple(hashes) == SHA256[seed, index, size_px]


def test_every_image_is_another(scenes):
    others = [scene(seed, 0, 64) for seed in (1, 10, -1)]
    assert len({image.tobytes() for image, _ in scenes + others}) == NUM + 3


@pytest.mark.parametrize("size_px", [16, 32, 64, 128, 256, 512, 1024])
def test_sizes(size_px):
    image, objects = scene(0, 0, size_px)
    assert image.shape == (size_px, size_px, 3)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert objects


@pytest.mark.parametrize("size_px", [0, 8, 48, 100, 2048, -64])
def test_other_sizes_are_refused(size_px):
    with pytest.raises(ValueError, match=rf"{size_px}, must be a power of two in 16\.\.1024"):
        scene(0, 0, size_px)


@pytest.mark.parametrize("index", range(4))
def test_content_does_not_depend_on_the_size(index):
    large, medium, small = (scene(7, index, size_px)[0] for size_px in (256, 64, 16))
    assert np.abs(box_reduce(large, 4) - medium).mean() < 3
    assert np.abs(box_reduce(medium, 4) - small).max() <= 1
    assert np.abs(box_reduce(large, 4) - scene(7, index + 1, 64)[0]).mean() > 10


@pytest.mark.parametrize("index", range(4))
def test_objects_do_not_depend_on_the_size(index):
    (_, small), (_, large) = scene(7, index, 16), scene(7, index, 256)
    assert [o["category"] for o in small] == [o["category"] for o in large]
    for a, b in zip(small, large, strict=True):
        assert np.array(a["box"]) * 16 == pytest.approx(np.array(b["box"]), abs=0.1)


def test_scenes_hold_many_objects_of_several_categories(scenes):
    counts = [len(objects) for _, objects in scenes]
    kinds = [len({o["category"] for o in objects}) for _, objects in scenes]
    assert min(counts) >= 10
    assert np.mean(counts) >= 25
    assert min(kinds) >= 3
    assert np.mean(kinds) >= 5
    assert {o["category"] for _, objects in scenes for o in objects} == set(DRAW)


def test_boxes_lie_inside_the_image(scenes):
    for _, objects in scenes:
        for x0, y0, x1, y1 in (o["box"] for o in objects):
            assert 0 <= x0 < x1 <= 64
            assert 0 <= y0 < y1 <= 64


def test_only_what_is_seen_is_listed(monkeypatch):
    _, objects = scene(0, 1, 64)
    monkeypatch.setattr(Canvas, "seen", lambda _: set(range(1, 256)))
    _, all_objects = scene(0, 1, 64)
    assert len(objects) < len(all_objects)
    assert all(listed in all_objects for listed in objects)


def test_near_cars_are_large_and_listed_last(scenes):
    heights, feet = [], []
    for _, objects in scenes:
        boxes = [o["box"] for o in objects if o["category"] == "car"]
        assert boxes == sorted(boxes, key=lambda box: box[3])
        inside = [box for box in boxes if box[0] > 0 and box[2] < 64]
        heights += [y1 - y0 for _, y0, _, y1 in inside]
        feet += [y1 for *_, y1 in inside]
    assert np.corrcoef(heights, feet)[0, 1] > 0.8


def test_sky_is_above_and_road_below(images):
    sky, road = images[:, 4:12, 24:40].mean(axis=(1, 2)), images[:, 56:, 24:40].mean(axis=(1, 2))
    assert (sky.mean(axis=1) > road.mean(axis=1)).mean() > 0.6
    assert sky[:, 2].mean() - sky[:, 0].mean() > 15
    assert abs(road[:, 2].mean() - road[:, 0].mean()) < 15


def test_detail_stands_between_sky_and_road(images):
    edges = np.abs(np.diff(images, axis=2)).mean(axis=(0, 2, 3))
    assert edges[24:40].mean() > 1.5 * max(edges[:8].mean(), edges[-8:].mean())


def test_light_varies(images):
    brightness = images.mean(axis=(1, 2, 3))
    warmth = images[..., 0].mean(axis=(1, 2)) - images[..., 2].mean(axis=(1, 2))
    assert brightness.max() > 2 * brightness.min()
    assert warmth.min() < -10
    assert warmth.max() > 10


def test_edges_are_anti_aliased(images):
    num_colors = [len(np.unique(image.reshape(-1, 3), axis=0)) for image in images]
    assert min(num_colors) > 700
