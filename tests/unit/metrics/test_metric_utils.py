import functools
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.object_names import construct_class_by_name
from metrics import metric_main, metric_utils
from metrics.frechet_inception_distance import compute_fid
from metrics.images import prepared_generator
from metrics.metric_utils import (
    MetricOptions,
    ProgressMonitor,
    compute_feature_stats_for_dataset,
    compute_feature_stats_for_generator,
    get_feature_detector,
)
from tests import image_files
from tests.helpers import assert_close
from tests.unit.metrics import tiny
from torch_utils.distributed import init_world
from torch_utils.launch import World, launch
from training.networks import Generator

FEATURES = {"detector_url": tiny.NAME, "detector_kwargs": {"return_features": True}, "capture_all": True}
CPU = torch.device("cpu")
SINGLE = World()
NUM_GEN = 21


def num_seen():
    return get_feature_detector(tiny.NAME).num_seen


def measure(real, world=SINGLE, batch_size=8):
    """Features of all real and of some generated images, with a metric of both."""
    opts = {"G": tiny.generator(), "dataset_kwargs": real, "device": CPU, "cache": False, "batch_size": batch_size}
    opts.update(G_kwargs={"truncation_psi": 0.7}, num_gpus=world.world_size, rank=world.rank)
    real_stats = compute_feature_stats_for_dataset(MetricOptions(**opts), **FEATURES)
    gen_stats = compute_feature_stats_for_generator(MetricOptions(**opts), **FEATURES, max_items=NUM_GEN)
    return real_stats.get_all(), gen_stats.get_all()


def test_items_do_not_depend_on_the_batch(real, tiny_weights):
    expected = measure(real)
    assert [x.shape for x in expected] == [(20, tiny.NUM_FEATURES), (NUM_GEN, tiny.NUM_FEATURES)]
    for batch_size in (1, 3, 64):
        actual_real, actual_gen = measure(real, batch_size=batch_size)
        assert_close(actual_real, expected[0])
        is_other = np.abs(actual_gen - expected[1]).max(axis=1) > 1e-5 * np.abs(expected[1]).max()
        # Sums in another order differ in the last digit, which can turn the rounding of a pixel.
        assert is_other.sum() <= 1


def test_a_value_does_not_depend_on_the_batch(real, tiny_weights):
    values = []
    for batch_size in (1, 3, 64):
        opts = MetricOptions(G=tiny.generator(), dataset_kwargs=real, device=CPU, batch_size=batch_size, cache=False)
        values.append(compute_fid(opts, max_real=None, num_gen=NUM_GEN, detector_url=tiny.NAME))
    assert values[0] > 0.1
    assert_close(values, [values[0]] * 3, 1e-6)


def test_features_are_those_of_the_images(real, tiny_weights):
    dataset = construct_class_by_name(**real)
    images = torch.from_numpy(np.stack([dataset[index][0] for index in range(20)]))
    expected = get_feature_detector(tiny.NAME)(images, return_features=True)
    assert_close(measure(real)[0], expected)


def _measure_in_process(folder: Path, weights: Path, real, world, init_method):
    tiny.register_detector(weights)
    init_world(world.rank, world.world_size, CPU, init_method)
    real_features, gen_features = measure(real, world, batch_size=4)
    np.savez(folder / f"{world.rank}.npz", real=real_features, gen=gen_features)
    metric_main.register_metric(_rank_metric)
    results = [metric_main.calc_metric("_rank_metric", num_gpus=2, rank=world.rank, device=CPU).results]
    metric_main.register_metric(_failing_metric)
    try:
        metric_main.calc_metric("_failing_metric", num_gpus=2, rank=world.rank, device=CPU)
    except UserError as err:
        results.append(str(err))
    cached = {"dataset_kwargs": real, "device": CPU, "num_gpus": 2, "rank": world.rank}
    for _ in range(2):
        stats = compute_feature_stats_for_dataset(MetricOptions(**cached), **FEATURES)
        results.append(stats.num_items)
    (folder / f"{world.rank}.json").write_text(json.dumps(results))


def _rank_metric(opts):
    return {"rank": float(opts.rank)}


def _failing_metric(opts):
    if opts.rank == 0:
        raise UserError("rank 0 failed")
    return {}


@pytest.mark.slow
def test_two_processes_share_the_items(real, tiny_weights, tmp_path):
    launch(functools.partial(_measure_in_process, tmp_path, tiny_weights, real), 2)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as data:
            for name, expected in zip(("real", "gen"), measure(real), strict=True):
                assert_close(data[name], expected)
    results = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    # Values of rank 0, its failure, and statistics that are complete everywhere or, from the cache, on rank 0.
    assert results[0] == [{"rank": 0.0}, "rank 0 failed", 20, 20]
    assert results[1] == [{"rank": 0.0}, "rank 0 failed", 20, 0]


def real_stats(real, **kwargs):
    return compute_feature_stats_for_dataset(MetricOptions(dataset_kwargs=real, device=CPU, **kwargs), **FEATURES)


def test_the_same_images_elsewhere_come_from_the_cache(real, tiny_weights, tmp_path, capsys):
    first = real_stats(real)
    (tmp_path / "elsewhere").mkdir()
    copy = Path(real.path).rename(tmp_path / "elsewhere" / "copy")
    second = real_stats(tiny.dataset_kwargs(copy, use_labels=True, resolution=8))
    assert num_seen() == 20
    np.testing.assert_array_equal(first.get_all(), second.get_all())
    assert "Using cached statistics of the real images" in capsys.readouterr().out


def change_image(real, weights):
    image = min(Path(real.path).rglob("*.png"))
    image.write_bytes(max(Path(real.path).rglob("*.png")).read_bytes())


def change_detector(real, weights):
    weights.write_text("2.0")
    metric_utils.weights_sha256.cache_clear()
    metric_utils.detectors.load_detector.cache_clear()


def take_mirrored(real, weights):
    real.xflip = True


def damage_cache(real, weights):
    (file,) = (weights.parent / "cache" / "metrics").iterdir()
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("change", [change_image, change_detector, take_mirrored, damage_cache])
def test_changes_miss_the_cache(change, real, tiny_weights):
    real_stats(real)
    before = num_seen()
    change(real, tiny_weights)
    assert num_seen() == (0 if change is change_detector else before)
    real_stats(real)
    assert num_seen() >= 20 + (0 if change is change_detector else before)


def test_works_without_the_cache(real, tiny_weights, tmp_path, monkeypatch):
    real_stats(real, cache=False)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("read-only")))
    assert real_stats(real).num_items == 20


class DatasetOfOthers(torch.utils.data.Dataset):
    """A dataset that is no folder or zip; counts how many are open."""

    image_shape = [3, 8, 8]
    label_dim = 3
    num_open = 0

    def __init__(self):
        type(self).num_open += 1

    def close(self):
        type(self).num_open -= 1

    def get_label(self, idx):
        return np.eye(3)[idx]

    def __len__(self):
        return 3

    def __getitem__(self, idx):
        return np.full(self.image_shape, idx, np.uint8), np.zeros(0)


def test_a_dataset_without_an_archive_records_no_content_and_is_not_cached(tiny_weights, tmp_path):
    opts = MetricOptions(dataset_kwargs={"class_name": f"{__name__}.DatasetOfOthers"}, device=CPU)
    assert compute_feature_stats_for_dataset(opts, **FEATURES).num_items == 3
    recorded = {key for key in opts.protocol if key.startswith(("real", "num"))}
    assert recorded == {"num_real", "real_shape"}
    assert DatasetOfOthers.num_open == 0
    assert not (tmp_path / "cache").exists()


def test_datasets_are_closed_even_after_a_failure(tiny_weights, monkeypatch):
    others = {"class_name": f"{__name__}.DatasetOfOthers"}
    opts = MetricOptions(G=tiny.generator(c_dim=3), dataset_kwargs=others, device=CPU)
    compute_feature_stats_for_generator(opts, **FEATURES, max_items=2)
    opts = MetricOptions(dataset_kwargs=others, gen_dataset_kwargs=others, device=CPU)
    compute_feature_stats_for_generator(opts, **FEATURES, max_items=2)
    monkeypatch.setattr("metrics.images._dataset_batches", lambda *args: iter([1 / 0 for _ in "x"]))
    with pytest.raises(ZeroDivisionError):
        compute_feature_stats_for_generator(opts, **FEATURES, max_items=2)
    assert DatasetOfOthers.num_open == 0


@pytest.mark.parametrize(
    ("metadata", "recorded"),
    [
        ({"labels": None, "resize_filter": "box"}, "box"),
        ({"labels": None}, None),
        ([1], None),
        ({"resize_filter": ["box"]}, None),
        ({"resize_filter": "x" * 101}, None),
        (None, None),
    ],
)
def test_the_filter_that_resized_the_images_is_recorded(metadata, recorded, real, tiny_weights):
    if metadata is not None:
        Path(real.path, "dataset.json").write_text(json.dumps(metadata))
    opts = MetricOptions(dataset_kwargs=real, device=CPU)
    compute_feature_stats_for_dataset(opts, **FEATURES, max_items=2)
    assert opts.protocol["real_resize_filter"] == recorded
    assert len(opts.protocol["real_fingerprint"]) == 64


def test_images_of_another_shape_are_told(real, tiny_weights, tmp_path, capsys):
    grey = image_files.write_folder(tmp_path / "grey", image_files.images(4, size=(16, 16), mode="L"))
    for dataset_kwargs in (real, tiny.dataset_kwargs(grey)):
        opts = MetricOptions(G=tiny.generator(), dataset_kwargs=dataset_kwargs, device=CPU, cache=False)
        compute_feature_stats_for_dataset(opts, **FEATURES)
        assert not capsys.readouterr().out
        compute_feature_stats_for_generator(opts, **FEATURES, max_items=2)
        said = capsys.readouterr().out
        if dataset_kwargs is real:
            assert not said
    assert said == (
        "Warning: the real images are 16x16 with 1 color channel, the generated ones 8x8 with 3 color channels; the "
        "value includes that difference\n"
    )
    assert (opts.protocol["real_shape"], opts.protocol["gen_shape"]) == ([1, 16, 16], [3, 8, 8])


@pytest.mark.parametrize(
    ("device", "G_kwargs", "num_fp16_res"),
    [("cpu", {}, 0), ("meta", {}, 2), ("meta", {"force_fp32": True}, 0)],
)
def test_half_precision_is_recorded_where_it_is_used(device, G_kwargs, num_fp16_res):
    kwargs = {"num_fp16_res": 2, "channel_base": 64, "channel_max": 8}
    G = Generator(z_dim=4, c_dim=0, w_dim=4, img_resolution=16, img_channels=3, synthesis_kwargs=kwargs)
    opts = MetricOptions(G=G, G_kwargs=G_kwargs, device=device)
    with prepared_generator(opts):
        pass
    assert opts.protocol["num_fp16_res"] == num_fp16_res
    assert metric_main._environment(opts)["precision"] == ("float16+float32" if num_fp16_res else "float32")


def test_a_diverged_generator_is_refused(tiny_weights):
    G = tiny.generator()
    state = {name: tensor * float("nan") for name, tensor in G.synthesis.b4.state_dict().items()}
    with mock.patch.object(G.synthesis.b4.torgb, "bias", torch.nn.Parameter(state["torgb.bias"])):
        opts = MetricOptions(G=G, device=CPU)
        with pytest.raises(UserError, match="not finite"):
            compute_feature_stats_for_generator(opts, **FEATURES, max_items=2)


def test_second_dataset_takes_the_place_of_the_generator(real, tiny_weights, tmp_path):
    opts = MetricOptions(dataset_kwargs=real, gen_dataset_kwargs=real, device=CPU)
    real_stats = compute_feature_stats_for_dataset(opts, **FEATURES, max_items=15)
    gen_stats = compute_feature_stats_for_generator(opts, **FEATURES, max_items=30)
    np.testing.assert_array_equal(real_stats.get_all(), gen_stats.get_all()[:15])
    assert (opts.protocol["num_real"], opts.protocol["num_gen"]) == (15, 20)
    assert opts.protocol["real_fingerprint"] == opts.protocol["gen_fingerprint"]


def test_needs_a_generator_or_a_second_dataset(tiny_weights):
    with pytest.raises(UserError, match="needs a generator"):
        compute_feature_stats_for_generator(MetricOptions(device=CPU), **FEATURES, max_items=3)


def test_leaves_the_caller_alone(real, tiny_weights):
    expected = measure(real, batch_size=4)
    G = tiny.generator().train()
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), [p.clone() for p in G.state_dict().values()]
    for actual, features in zip(measure(real, batch_size=4), expected, strict=True):
        np.testing.assert_array_equal(actual, features)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert all(map(torch.equal, G.state_dict().values(), before[2]))
    assert G.training
    G.eval()


def test_reports_progress_of_both_stages(real, tiny_weights, capsys):
    opts = MetricOptions(
        G=tiny.generator(), dataset_kwargs=real, device=CPU, progress=ProgressMonitor(verbose=True), cache=False
    )
    compute_feature_stats_for_dataset(opts, **FEATURES)
    compute_feature_stats_for_generator(opts, **FEATURES, max_items=5)
    lines = capsys.readouterr().out.splitlines()
    stages = [line.partition(":")[0] for line in lines]
    assert stages == sorted(stages, reverse=True)
    assert {"real images: 20 of 20", "generated images: 5 of 5"} <= {line.partition(",")[0] for line in lines}
