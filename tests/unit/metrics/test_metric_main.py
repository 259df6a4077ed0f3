import functools
import json

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics import detectors, metric_main, metric_utils, perceptual_path_length
from metrics.catalog import FeatureMetric
from metrics.detectors import DINOV2, EFFLITE1, INCEPTION, NANODET, VGG16
from metrics.frechet_inception_distance import compute_fid
from metrics.metric_utils import FeatureStats
from tests.helpers import assert_close, golden_cases
from tests.unit.metrics import tiny
from torch_utils.distributed import init_world
from torch_utils.launch import launch

FULL = {"max_size": None, "xflip": False}
OLD = {"max_size": None, "xflip": True}
PR = ("_precision", "_recall")


def efflite(num):
    return EFFLITE1, {"max_size": num, "random_seed": 0, "xflip": False}, num, num


# Name: detector, what the dataset is asked for, most real images, number of generated ones, values.
FEATURE_METRICS = {
    "fid50k_full": (INCEPTION, FULL, None, 50_000, ("",)),
    "kid50k_full": (INCEPTION, FULL, 1_000_000, 50_000, ("",)),
    "pr50k3_full": (VGG16, FULL, 200_000, 50_000, PR),
    "fid50k": (INCEPTION, OLD, 50_000, 50_000, ("",)),
    "kid50k": (INCEPTION, OLD, 50_000, 50_000, ("",)),
    "pr50k3": (VGG16, OLD, 50_000, 50_000, PR),
    "fd1k_efflite1": (*efflite(1_000), ("",)),
    "fd5k_efflite1": (*efflite(5_000), ("",)),
    "fd50k_efflite1": (*efflite(50_000), ("",)),
    "kd5k_efflite1": (*efflite(5_000), ("",)),
    "pr5k_efflite1": (*efflite(5_000), PR),
    "fd5k_nanodet": (NANODET, *efflite(5_000)[1:], ("",)),
    "fd50k_nanodet": (NANODET, *efflite(50_000)[1:], ("",)),
    "fd50k_dinov2": (DINOV2, *efflite(50_000)[1:], ("",)),
}
OTHER_METRICS = {"is50k", "ppl2_wend", "ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend"}


@pytest.fixture
def calls(monkeypatch):
    """Golden features in place of those of images; returns what was asked for."""
    _, arrays = next(golden_cases("metrics"))
    calls = []

    def stats_of(features, stats_kwargs):
        stats = FeatureStats(**stats_kwargs)
        stats.append(features)
        return stats

    def of_dataset(opts, detector_url, detector_kwargs, **stats_kwargs):
        calls.append((detector_url, opts.dataset_kwargs, stats_kwargs["max_items"]))
        return stats_of(arrays["real"], stats_kwargs)

    def of_generator(opts, detector_url, detector_kwargs, **stats_kwargs):
        calls.append((detector_url, stats_kwargs["max_items"]))
        return stats_of(arrays["probs" if "no_output_bias" in detector_kwargs else "gen"], stats_kwargs)

    monkeypatch.setattr(metric_utils, "compute_feature_stats_for_dataset", of_dataset)
    monkeypatch.setattr(metric_utils, "compute_feature_stats_for_generator", of_generator)
    return calls


def test_all_names_are_known():
    assert set(metric_main.list_valid_metrics()) >= set(FEATURE_METRICS) | OTHER_METRICS
    assert all(map(metric_main.is_valid_metric, FEATURE_METRICS))
    assert not metric_main.is_valid_metric("fid51k")


@pytest.mark.parametrize("name", FEATURE_METRICS)
def test_metrics_of_features(name, calls):
    detector, dataset_kwargs, max_real, num_gen, suffixes = FEATURE_METRICS[name]
    trained_on = {"max_size": 7, "random_seed": 5, "xflip": True}  # with --subset=7 --seed=5 --mirror=1
    result = metric_main.calc_metric(name, dataset_kwargs=trained_on, device="cpu")
    assert calls == [(detector, {**trained_on, **dataset_kwargs}, max_real), (detector, num_gen)]
    assert list(result.results) == [name + suffix for suffix in suffixes]
    assert np.isfinite(list(result.results.values())).all()


def test_golden_values_by_name(calls):
    _, arrays = next(golden_cases("metrics"))
    results = {
        key: value
        for name in ("fid50k_full", "pr50k3_full")
        for key, value in metric_main.calc_metric(name, device="cpu").results.items()
    }
    assert_close(results["fid50k_full"], arrays["fid"], 1e-9)
    assert_close(results["pr50k3_full_precision"], arrays["precision"])
    assert_close(results["pr50k3_full_recall"], arrays["recall"])


def test_inception_score_by_name(calls):
    result = metric_main.calc_metric("is50k", device="cpu")
    assert calls == [(INCEPTION, 50_000)]
    assert list(result.results) == ["is50k_mean", "is50k_std"]


@pytest.mark.parametrize("name", sorted(OTHER_METRICS - {"is50k"}))
def test_path_lengths_by_name(name, tiny_weights, monkeypatch):
    asked = []

    def few_items(num_items, *sharding):
        asked.append(num_items)
        return [[0, 1], [2, 3]]

    monkeypatch.setitem(detectors.DETECTORS, VGG16, detectors.DETECTORS[tiny.NAME])
    monkeypatch.setattr(perceptual_path_length, "shard", few_items)
    opts = {"G": tiny.generator(), "device": "cpu"}
    result = metric_main.calc_metric(name, **opts)
    space, sampling = name.partition("_")[2][0], name.partition("_")[2][1:]
    crop = name != "ppl2_wend"
    expected = perceptual_path_length.compute_ppl(
        metric_utils.MetricOptions(**opts), 4, 1e-4, space, sampling, crop, detector_url=tiny.NAME
    )
    assert result.results == {name: expected}
    assert asked[0] == 50_000


@pytest.fixture
def two_values(monkeypatch):
    """A metric of the caller's."""
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))

    @metric_main.register_metric
    def two_values(opts):
        return {"two_values_a": np.float32(0.5), "two_values_b": 2}

    return two_values


def test_result_says_what_it_is(two_values):
    result = metric_main.calc_metric("two_values", seed=3, device="cpu")
    assert result.results == {"two_values_a": 0.5, "two_values_b": 2.0}
    assert all(type(value) is float for value in result.results.values())
    assert (result.metric, result.num_gpus) == ("two_values", 1)
    assert result.total_time >= 0
    assert result.total_time_str == "0s"
    assert result.protocol.seed == 3
    assert (result.protocol.device, result.protocol.precision) == ("cpu", "float32")
    assert set(result.protocol.versions) == {"torch", "numpy"}


def test_protocol_of_a_real_run(real, tiny_weights, monkeypatch):
    monkeypatch.setitem(detectors.DETECTORS, EFFLITE1, detectors.DETECTORS[tiny.NAME])
    result = metric_main.calc_metric("fd1k_efflite1", gen_dataset_kwargs=real, dataset_kwargs=real, device="cpu")
    assert result.results.fd1k_efflite1 < 1e-6
    protocol = json.loads(json.dumps(result.protocol))
    assert (protocol["num_real"], protocol["num_gen"]) == (20, 20)
    assert protocol["detector"] == tiny.NAME
    assert all(len(protocol[key]) == 64 for key in ("detector_sha256", "real_fingerprint", "gen_fingerprint"))
    assert protocol["real_resize_filter"] is None
    assert protocol["real_shape"] == protocol["gen_shape"] == [3, 8, 8]


@pytest.mark.parametrize(
    ("pretrained", "detector", "is_related"),
    [
        ("EfficientNet-Lite0 (ImageNet)", EFFLITE1, True),
        ("EfficientNet-Lite0 (ImageNet)", INCEPTION, True),
        ("EfficientNet-Lite0 (ImageNet)", NANODET, False),
        ("EfficientNet-Lite0 (ImageNet)", "my own", False),
        ("none", EFFLITE1, False),
        ("unknown", EFFLITE1, False),
    ],
)
def test_a_result_says_whether_its_discriminator_uses_related_features(pretrained, detector, is_related, two_values):
    metric_main.register_metric(lambda opts: opts.protocol.update(detector=detector) or {"value": 1.0}, "judged")
    result = metric_main.calc_metric("judged", G=tiny.generator(), pretrained_D=pretrained, device="cpu")
    assert (result.protocol.pretrained_D, result.protocol.related_pretrained_D) == (pretrained, is_related)


def test_images_without_a_generator_have_no_discriminator(two_values):
    assert "pretrained_D" not in metric_main.calc_metric("two_values", device="cpu").protocol


def test_unknown_metric_is_one_line():
    with pytest.raises(UserError, match="there is no metric 'fid51k'; choose from fid50k_full, kid50k_full"):
        metric_main.calc_metric("fid51k")


def test_missing_weights_are_found_before_they_are_needed(two_values, monkeypatch):
    asked = []

    def find_weights(name, folder, verbose):
        asked.append((name, folder))
        if name == VGG16:
            raise UserError("no vgg")

    monkeypatch.setattr(metric_main, "find_weights", find_weights)
    metrics = ["fid50k_full", "ppl2_wend", "ppl_wend", "two_values"]
    assert metric_main.missing_weights(metrics, "folder") == {"ppl2_wend": "no vgg", "ppl_wend": "no vgg"}
    assert asked == [(INCEPTION, "folder"), (VGG16, "folder")]


def test_categories_that_no_detector_knows_are_found_before_they_are_needed():
    found = metric_main.missing_weights(["okd2k_zebra", "okd2k_car", "objects2k"], object_detector="scenes")
    assert list(found) == ["okd2k_zebra"]
    assert found["okd2k_zebra"].startswith("object detector scenes has no 'zebra': choose from ")


class _FailsInMidExchange(torch.nn.Module):
    """A detector that fails on rank 1 while rank 0 goes on to exchange its features."""

    def __init__(self, rank):
        super().__init__()
        self.rank = rank
        self.num_batches = 0

    def forward(self, img, return_features):
        self.num_batches += 1
        if self.rank == 1 and self.num_batches == 3:
            raise MemoryError("too large")
        return img.float().mean((2, 3))


def _fail_in_process(folder, weights, real, world, init_method):
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method, timeout_sec=30)

    def fails_on_rank1(failure, opts):
        if opts.rank == 1:
            raise failure
        return {"value": 1.0}

    heard = []
    for failure in (UserError("too few images"), ZeroDivisionError("no images")):
        metric_main.register_metric(functools.partial(fails_on_rank1, failure), "failing")
        try:
            metric_main.calc_metric("failing", num_gpus=world.world_size, rank=world.rank, device="cpu")
        except Exception as err:
            heard.append([type(err).__name__, str(err)])
    heard += _fail_in_mid_exchange(weights, real, world)
    (folder / f"rank{world.rank}.json").write_text(json.dumps(heard))


def _fail_in_mid_exchange(weights, real, world):
    """With a detector that fails, a dataset that only one process lacks, and a network that only one process lacks."""
    opts = {"dataset_kwargs": real, "gen_dataset_kwargs": real, "num_gpus": 2, "rank": world.rank, "device": "cpu"}
    for detector, changes in (
        (_FailsInMidExchange(world.rank), {}),
        (_FailsInMidExchange(0), {"dataset_kwargs": real if world.rank == 0 else tiny.dataset_kwargs("/absent")}),
        (None if world.rank == 0 else _FailsInMidExchange(0), {}),
    ):
        loads = functools.partial(_detector_or_failure, detector)
        detectors.DETECTORS[tiny.NAME] = detectors.Detector(tiny.NAME, str(weights), load=loads, num_features=3)
        metric = FeatureMetric("exchanging", compute_fid, tiny.NAME, {}, {"max_real": None, "num_gen": 20})
        metric_main.register_metric(metric, metric.name)
        try:
            metric_main.calc_metric("exchanging", **{**opts, **changes}, cache=False, batch_size=3)
        except Exception as err:
            yield [type(err).__name__, str(err)]


def _detector_or_failure(detector, _weights):
    if detector is None:
        raise UserError("no detector here")
    return detector


def test_a_failure_of_one_process_is_one_of_all(tmp_path, real, tiny_weights):
    launch(functools.partial(_fail_in_process, tmp_path, tiny_weights, real), 2)
    heard = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    user_errors = [
        ["UserError", "too few images"],
        ["UserError", "no such folder or zip: /absent"],
        ["UserError", "no detector here"],
    ]
    no_memory = ["UserError", "out of memory (too large): use a smaller --batch for the metrics"]
    for rank, other in (
        (0, ["RuntimeError", "process 1: no images"]),
        (1, ["ZeroDivisionError", "no images"]),
    ):
        assert heard[rank] == [user_errors[0], other, no_memory, *user_errors[1:]]


def test_a_lack_of_memory_is_one_line(monkeypatch):
    def fail(_opts):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")

    monkeypatch.setattr(metric_main, "_metrics", {})
    metric_main.register_metric(fail, "greedy")
    with pytest.raises(UserError, match=r"^out of memory \(CUDA out of memory.*GiB\.\): use a smaller --batch [^\n]*$"):
        metric_main.calc_metric("greedy")
