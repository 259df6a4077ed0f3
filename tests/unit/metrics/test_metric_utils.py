import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.util import UserError
from metrics import metric_main, metric_utils
from metrics.frechet_inception_distance import compute_fid
from metrics.metric_utils import (
    MetricOptions,
    ProgressMonitor,
    compute_feature_stats_for_dataset,
    compute_feature_stats_for_generator,
    get_feature_detector,
)
from tests.helpers import assert_close
from tests.unit.metrics import tiny
from torch_utils.distributed import World, init_world, launch

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
        for actual, features in zip(measure(real, batch_size=batch_size), expected, strict=True):
            assert_close(actual, features)


def test_a_value_does_not_depend_on_the_batch(real, tiny_weights):
    values = []
    for batch_size in (1, 3, 64):
        opts = MetricOptions(G=tiny.generator(), dataset_kwargs=real, device=CPU, batch_size=batch_size, cache=False)
        values.append(compute_fid(opts, max_real=None, num_gen=NUM_GEN, detector_url=tiny.NAME))
    assert values[0] > 0.1
    assert_close(values, [values[0]] * 3, 1e-6)


def test_features_are_those_of_the_images(real, tiny_weights):
    dataset = metric_utils.dnnlib.util.construct_class_by_name(**real)
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
    assert "come from the cache" in capsys.readouterr().out


def change_image(real, weights):
    image = min(Path(real.path).rglob("*.png"))
    image.write_bytes(max(Path(real.path).rglob("*.png")).read_bytes())


def change_detector(real, weights):
    weights.write_text("2.0")
    metric_utils.detectors.weights_sha256.cache_clear()
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
    assert [line.partition(",")[0] for line in lines] == ["real images: 20 of 20", "generated images: 5 of 5"]
