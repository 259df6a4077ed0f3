"""The detector in the repository, on scenes that it has not been trained on."""

import pytest
import torch
from PIL import Image, ImageFilter

from metrics import metric_main
from metrics.objects.accuracy import accuracy
from metrics.objects.boxes import pairwise_iou
from metrics.objects.registry import load_object_detector
from metrics.objects.scene_detector import CATEGORIES, WEIGHTS
from tests import image_files
from tests.unit.metrics import tiny
from training.data.scenes import scene as scenes
from training.data.scenes.evaluate_detector import MIN_SIDE_PX, UNSEEN_SEED
from training.data.scenes.train_detector import THRESHOLD, detect_all, draw_scenes


@pytest.fixture(scope="module")
def detector():
    return load_object_detector("scenes")


@pytest.fixture(scope="module")
def unseen():
    return draw_scenes(150, UNSEEN_SEED)


def test_is_small():
    assert WEIGHTS.stat().st_size < 1_000_000


@pytest.mark.slow
def test_finds_the_objects_of_unseen_scenes(detector, unseen):
    found = [one.select(one.scores >= THRESHOLD) for one in detect_all(detector, unseen.images)]
    rows = accuracy(zip(found, unseen.objects, strict=True), len(CATEGORIES), MIN_SIDE_PX)
    for category, recall, precision in (("car", 0.67, 0.76), ("building", 0.63, 0.81), ("person", 0.47, 0.40)):
        row = rows[CATEGORIES.index(category)]
        assert (row.recall >= recall, row.precision >= precision) == (True, True), (category, row)


def test_boxes_are_in_pixels_of_the_image(detector):
    image = torch.from_numpy(scenes.scene(UNSEEN_SEED, 0, 64)[0]).permute(2, 0, 1)[None]
    wide = image.repeat_interleave(4, dim=2).repeat_interleave(2, dim=3)
    (small,), (large,) = detector.detect(image), detector.detect(wide)
    sure = large.select(large.scores > 0.8)  # resampling changes the image a little
    overlaps = pairwise_iou(sure.boxes, small.boxes * torch.tensor([2.0, 4, 2, 4])).max(dim=1)
    assert len(sure.boxes) > 3
    assert overlaps.values.min() > 0.8
    assert torch.equal(small.labels[overlaps.indices], sure.labels)
    assert small.scores.tolist() == sorted(small.scores.tolist(), reverse=True)
    assert 0 <= small.boxes.min() <= small.boxes.max() <= 64


def write(folder, indices, change=lambda image: image, seed=0):
    images = {i: change(Image.fromarray(scenes.scene(seed, i, 256)[0])) for i in indices}
    return tiny.dataset_kwargs(
        image_files.write_folder(folder, {f"{i:04d}.png": image_files.encode(image) for i, image in images.items()})
    )


@pytest.mark.slow
def test_the_distance_of_objects_grows_with_blur_and_their_number_falls(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    real = write(tmp_path / "real", range(36))
    values, counts = [], []
    for radius in (0, 2, 4):
        blur = ImageFilter.GaussianBlur(radius)
        fake = write(tmp_path / f"blur{radius}", range(36, 72), lambda image, blur=blur: image.filter(blur))
        kwargs = {"dataset_kwargs": real, "gen_dataset_kwargs": fake, "object_detector": "scenes"}
        result = metric_main.calc_metric("okd2k_car", **kwargs).results
        values.append(result["okd2k_car"])
        counts.append(result["okd2k_car_fake_per_image"])
    assert values[0] < values[1] < values[2]
    assert counts[0] >= counts[1] >= counts[2]


@pytest.mark.slow
def test_removed_objects_are_missed(tmp_path, monkeypatch):
    real = write(tmp_path / "real", range(40))
    lay_out = scenes.lay_out
    monkeypatch.setattr(scenes, "lay_out", lambda *args: (one for one in lay_out(*args) if one.category != "car"))
    fake = write(tmp_path / "fake", range(40, 80))
    kwargs = {"dataset_kwargs": real, "gen_dataset_kwargs": fake, "object_detector": "scenes"}
    result = metric_main.calc_metric("objects2k", **kwargs).results
    assert result["objects2k_car_fake_per_image"] < 0.15 * result["objects2k_car_real_per_image"]
    assert result["objects2k_building_fake_per_image"] > 0.7 * result["objects2k_building_real_per_image"]
    assert result["objects2k"] > 0.2
