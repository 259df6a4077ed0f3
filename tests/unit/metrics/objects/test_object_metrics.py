import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dnnlib
from dnnlib.errors import UserError
from metrics import metric_main
from metrics.catalog import ObjectMetric
from metrics.frechet_inception_distance import frechet_distance, gaussian_from_features
from metrics.kernel_inception_distance import squared_mmd
from metrics.objects import object_metrics
from metrics.objects.crops import CropSample, resized
from metrics.objects.protocol import Detections
from metrics.progress import ProgressMonitor
from tests import image_files
from tests.unit.metrics import tiny
from torch_utils.distributed import init_world
from torch_utils.launch import launch

SIDE_PX = 32


class CornerDetector:
    """Finds as many objects as the red of the first pixel says: odd ones are lamps, the others are street signs."""

    name, sha256, min_side_px = "corner", "c0", 0.0
    categories = ("street sign", "lamp", "cloud")

    def detect(self, img):
        return [self.of_image(int(image[0, 0, 0])) for image in img]

    def of_image(self, num):
        corners = 3.0 * torch.arange(num)[:, None] * torch.ones(1, 2)
        scores = torch.linspace(0.9, 0.45, num)
        found = Detections(torch.cat([corners, corners + 5], dim=1), scores, torch.arange(num) % 2)
        doubtful = Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0.2]), torch.tensor([2]))
        tiny_one = Detections(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([0.9]), torch.tensor([2]))
        return Detections(*map(torch.cat, zip(found, doubtful, tiny_one, strict=True)))


def write(folder, counts, seed=0):
    rng = np.random.RandomState(seed)
    images = rng.randint(0, 256, (len(counts), SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    images[:, 0, 0, 0] = counts
    files = {f"{i}.png": image_files.encode(Image.fromarray(image)) for i, image in enumerate(images)}
    return image_files.write_folder(folder, files)


def use_small_networks(weights):
    """Also in child processes."""
    tiny.register_detector(weights)
    object_metrics.EFFLITE1 = tiny.NAME
    object_metrics.load_object_detector = lambda *args: CornerDetector()


@pytest.fixture
def kwargs(tmp_path, monkeypatch, tiny_weights):
    """Two sets of images, and networks that take no time."""
    for name in ("EFFLITE1", "load_object_detector"):
        monkeypatch.setattr(object_metrics, name, getattr(object_metrics, name))
    use_small_networks(tiny_weights)
    return {
        "dataset_kwargs": tiny.dataset_kwargs(write(tmp_path / "real", [0, 1, 2, 3, 4, 5, 6, 7])),
        "gen_dataset_kwargs": tiny.dataset_kwargs(write(tmp_path / "gen", [0, 1, 1, 2, 3, 3, 5, 5], seed=1)),
        "object_detector": "corner",
    }


@pytest.fixture
def few_crops(monkeypatch):
    monkeypatch.setitem(metric_main._families, "okd2k", with_crops("okd2k", max_crops=6, min_crops=2))


def with_crops(name, **settings):
    return ObjectMetric(name, object_metrics.object_distance, 2_000, settings)


def crops_of(kwargs, label, num, seed=0):
    """The crops that belong into the sample, by the image files and the detector."""
    dataset = dnnlib.util.construct_class_by_name(**kwargs)
    sample = CropSample(num, 240, seed)
    for index in range(len(dataset)):
        image = torch.from_numpy(dataset[index][0])
        found = CornerDetector().of_image(int(image[0, 0, 0]))
        sample.add(index, image, found.boxes[(found.labels == label) & (found.scores > 0.4)])
    return torch.stack([resized(crop, 240) for crop in sample.best(num)])


def test_distance_of_equally_many_crops(kwargs, few_crops):
    result = metric_main.calc_metric("okd2k_lamp", **kwargs)
    # 0..7 objects have 0, 0, 1, 1, 2, 2, 3, 3 lamps; of 7 generated ones 6 are drawn, as of the 12 real ones.
    net = tiny.TinyDetector(1.0)
    real, gen = (
        net(crops_of(kwargs[side], 1, 6), return_features=True).numpy().astype(np.float64)
        for side in ("dataset_kwargs", "gen_dataset_kwargs")
    )
    assert result.results == {
        "okd2k_lamp": pytest.approx(squared_mmd(gen, real), rel=1e-5),
        "okd2k_lamp_real_per_image": 12 / 8,
        "okd2k_lamp_fake_per_image": 7 / 8,
    }
    protocol = result.protocol
    assert (protocol.num_crops, protocol.object_detector, protocol.object_detector_sha256) == (6, "corner", "c0")
    assert (protocol.object_threshold, protocol.object_min_side_px) == (0.4, pytest.approx(32 / 12))
    assert protocol.detector == tiny.NAME
    assert "reason" not in protocol
    assert "object_detector_accuracy_real" not in protocol


def test_every_stage_shows_its_progress(kwargs, few_crops, capsys):
    metric_main.calc_metric("okd2k_lamp", progress=ProgressMonitor(verbose=True), **kwargs)
    shown = capsys.readouterr()
    stages = {"objects in real images": 8, "objects in generated images": 8}
    stages |= {"features of real objects": 6, "features of generated objects": 6}
    for stage, num in stages.items():
        assert f"{stage}: {num} of {num}," in shown.out + shown.err


def test_features_of_real_objects_are_computed_once(kwargs, few_crops, monkeypatch, capsys):
    first = metric_main.calc_metric("okd2k_lamp", **kwargs).results
    real = object_metrics.crop_features
    computed = []
    monkeypatch.setattr(object_metrics, "crop_features", lambda *args: computed.append(args[3]) or real(*args))
    assert metric_main.calc_metric("okd2k_lamp", **kwargs).results == first
    assert computed == ["generated objects"]
    assert "Using cached statistics" in capsys.readouterr().out
    metric_main.calc_metric("okd2k_lamp", cache=False, **kwargs)
    assert computed[1:] == ["real objects", "generated objects"]


@pytest.mark.parametrize(
    "change",
    [
        lambda kwargs, patch: kwargs.update(seed=1),
        lambda kwargs, patch: patch.setattr(CornerDetector, "sha256", "c1"),
        lambda kwargs, patch: patch.setitem(
            metric_main._families, "okd2k", with_crops("okd2k", max_crops=5, min_crops=2)
        ),
        lambda kwargs, patch: write(Path(kwargs["dataset_kwargs"].path), [7, 6, 5, 4, 3, 2, 1, 0], seed=2),
    ],
    ids=["seed", "object detector", "number of crops", "images"],
)
def test_features_of_other_real_objects_are_computed_anew(kwargs, few_crops, monkeypatch, capsys, change):
    metric_main.calc_metric("okd2k_lamp", **kwargs)
    change(kwargs, monkeypatch)
    cached = metric_main.calc_metric("okd2k_lamp", **kwargs).results
    assert "Using cached statistics" not in capsys.readouterr().out
    assert cached == metric_main.calc_metric("okd2k_lamp", cache=False, **kwargs).results


def test_names_of_categories_have_no_blanks(kwargs, few_crops):
    assert "okd2k_street_sign" in metric_main.calc_metric("okd2k_street_sign", **kwargs).results


def test_frechet_distance_of_crops(kwargs, monkeypatch):
    family = with_crops("ofd5k", max_crops=7, min_crops=7, distance=object_metrics.frechet)
    monkeypatch.setitem(metric_main._families, "ofd5k", family)
    net = tiny.TinyDetector(1.0)
    sides = (crops_of(kwargs[side], 1, 7) for side in ("dataset_kwargs", "gen_dataset_kwargs"))
    expected = frechet_distance(*(gaussian_from_features(net(x, return_features=True).numpy()) for x in sides))
    assert metric_main.calc_metric("ofd5k_lamp", **kwargs).results["ofd5k_lamp"] == pytest.approx(expected, rel=1e-5)


def test_too_few_crops_are_a_result_with_a_reason(kwargs, capsys):
    result = metric_main.calc_metric("okd2k_lamp", **kwargs)
    assert math.isnan(result.results["okd2k_lamp"])
    assert result.results["okd2k_lamp_real_per_image"] == 1.5
    reason = "too few objects: 12 real and 7 generated ones, 50 of each are needed"
    assert result.protocol.reason == reason
    metric_main.report_metric(result)
    line, record = capsys.readouterr().out.splitlines()
    assert reason in line
    assert "7 crops a side, corner, tiny" in line
    assert json.loads(record)["results"]["okd2k_lamp"] is None


def test_objects_per_image(kwargs):
    result = metric_main.calc_metric("objects2k", **kwargs)
    # 28 real and 20 generated objects: 16 and 13 street signs, 12 and 7 lamps. Clouds are doubtful or small.
    assert result.results == {
        "objects2k": pytest.approx((3 + 5) / 28),
        "objects2k_street_sign_real_per_image": 2.0,
        "objects2k_street_sign_fake_per_image": 13 / 8,
        "objects2k_lamp_real_per_image": 1.5,
        "objects2k_lamp_fake_per_image": 7 / 8,
    }


def test_without_any_objects_there_is_nothing_to_compare(kwargs, tmp_path):
    kwargs["dataset_kwargs"] = tiny.dataset_kwargs(write(tmp_path / "empty", [0, 0]))
    result = metric_main.calc_metric("objects2k", **kwargs)
    assert math.isnan(result.results["objects2k"])
    assert result.protocol.reason == "the detector finds no objects in the real images"


def test_the_detectors_own_accuracy_where_the_truth_is_known(kwargs, few_crops):
    folder = Path(kwargs["dataset_kwargs"].path)
    names = [f"{i}.png" for i in range(8)]
    lamp = {"category": "lamp", "box": [3, 3, 8, 8]}
    objects = {names[2]: [lamp, {"category": "unheard of", "box": [0, 0, 9, 9]}], names[3]: [lamp, lamp], names[7]: []}
    (folder / "objects.json").write_text(json.dumps({"objects": objects}))
    protocol = metric_main.calc_metric("okd2k_lamp", **kwargs).protocol
    # Two images with one lamp each and a third with three: two of five boxes are right, two of three lamps found.
    assert protocol.object_detector_accuracy_real == {"lamp": {"recall": pytest.approx(2 / 3), "precision": 2 / 5}}
    assert set(metric_main.calc_metric("objects2k", **kwargs).protocol.object_detector_accuracy_real) == {"lamp"}


def test_a_category_that_the_detector_lacks(kwargs):
    with pytest.raises(UserError, match="object detector corner has no 'bus': choose from street_"):
        metric_main.calc_metric("okd2k_bus", **kwargs)


def _in_process(folder, kwargs, world, init_method):
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method)
    use_small_networks(folder / "tiny.txt")
    metric_main._families["okd2k"] = with_crops("okd2k", max_crops=6, min_crops=2)
    for name in ("okd2k_lamp", "objects2k"):
        result = metric_main.calc_metric(name, num_gpus=2, rank=world.rank, batch_size=3, device="cpu", **kwargs)
        (folder / f"{name}-{world.rank}.json").write_text(json.dumps(result.results))


@pytest.mark.slow
def test_two_processes_get_the_same_values(kwargs, few_crops, tmp_path):
    kwargs["dataset_kwargs"]["max_size"] = 7  # does not divide evenly
    launch(functools.partial(_in_process, tmp_path, kwargs), 2)
    for name in ("okd2k_lamp", "objects2k"):
        alone = metric_main.calc_metric(name, **kwargs).results
        for rank in (0, 1):
            assert json.loads((tmp_path / f"{name}-{rank}.json").read_text()) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("metric", ["okd2k_", "okd2k", "okd2k_a-b", "ofd5k_car/..", "objects2k_car"])
def test_names_that_are_no_metrics(metric):
    assert not metric_main.is_valid_metric(metric)


def test_names_of_metrics_of_objects():
    names = metric_main.list_valid_metrics()
    assert {"objects2k", "okd2k_CATEGORY", "ofd5k_CATEGORY"} <= set(names)
    assert all(map(metric_main.is_valid_metric, names))


def test_a_missing_object_detector_is_found_beforehand(kwargs):
    reasons = metric_main.missing_weights(["objects2k", "is50k"][:1], None, "no such.onnx")
    assert list(reasons) == ["objects2k"]
