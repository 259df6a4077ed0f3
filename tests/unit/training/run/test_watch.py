"""The watch with the real augmentation pipe, whose random numbers must not be those of training."""

import numpy as np
import pytest
import torch

from torch_utils import training_stats
from training.augment import AugmentPipe
from training.run.best import read_best
from training.run.health.history import LEAK
from training.run.settings import TrainingSettings
from training.run.watch import RunWatch

COLORS_AND_TURNS = {"rotate90": 1, "brightness": 1, "contrast": 1, "lumaflip": 1, "hue": 1, "saturation": 1}
NUM = 200


def images(seed):
    """Landscapes: a bright top, a green bottom, some noise. uint8 [NUM, 3, 16, 16]."""
    rng = np.random.default_rng(seed)
    img = np.zeros([NUM, 3, 16, 16])
    img[:, :, :8] = np.array([150, 180, 230]).reshape(3, 1, 1)
    img[:, :, 8:] = np.array([60, 140, 50]).reshape(3, 1, 1)
    img += rng.normal(0, 20, [NUM, 3, 1, 1]) + rng.normal(0, 10, img.shape)
    return img.clip(0, 255).astype(np.uint8)


@pytest.fixture
def pipe():
    pipe = AugmentPipe(**COLORS_AND_TURNS)
    pipe.get_buffer("p").fill_(0.7)
    return pipe


@pytest.fixture
def watch(tmp_path):
    reals, said = images(0), []
    kwargs = {"class_name": "training.augment.AugmentPipe"}
    settings = TrainingSettings(run_dir=str(tmp_path), augment_kwargs=kwargs, ada_target=0.6)
    watch = RunWatch(settings, [(img, None) for img in reals], reals, said.append)
    watch.said = said
    watch.monitor.add_tick({"Progress/kimg": {"num": 1, "mean": 100.0, "std": 0.0}})
    return watch


def to_range(img):
    return np.asarray(img, np.float32) / 127.5 - 1


def test_leaks_are_found(watch, pipe):
    with torch.no_grad():
        torch.manual_seed(1)
        leaking = [pipe(torch.from_numpy(to_range(images(seed)))).numpy() for seed in (1, 2)]
    for samples in leaking:
        assert watch.said == []
        watch.add_samples(samples, pipe)
    (line,) = watch.said
    assert line.startswith("Warning: augmentations leak into the samples")


def test_samples_without_leaks(watch, pipe):
    for seed in (1, 2):
        watch.add_samples(to_range(images(seed)), pipe)
    assert watch.said == []
    assert min(watch.monitor.history.measured[LEAK]) > 1


def test_leaks_are_not_looked_for_where_there_can_be_none(watch, pipe):
    pipe.get_buffer("p").fill_(0.2)
    for augment_pipe in (pipe, None):
        watch.add_samples(to_range(images(1)), augment_pipe)
    assert LEAK not in watch.monitor.history.measured


def test_no_random_numbers_are_drawn(watch, pipe):
    before = torch.get_rng_state()
    watch.add_samples(to_range(images(1)), pipe)
    assert torch.equal(torch.get_rng_state(), before)


def test_measurements_are_reported(watch):
    collector = training_stats.Collector(regex="Health/.*")
    watch.add_samples(to_range(images(1)), None)
    collector.update()
    assert collector.names() == ["Health/diversity", "Health/nearest_real"]
    (value,) = watch.monitor.history.measured["Health/diversity"]
    assert collector["Health/diversity"] == value  # the same again in the next tick, not another measurement


def test_scores_of_an_earlier_session_are_not_counted_twice(watch):
    watch.add_scores(4.0, {"fd": 3.0}, None)
    watch.add_scores(4.0, {"fd": 3.0}, None, is_known=True)
    assert watch.monitor.history.scores == [(4.0, 3.0)]


def test_a_score_that_is_not_finite_says_nothing(watch, tmp_path):
    for kimg, value in ((4.0, 3.0), (8.0, float("nan"))):
        snapshot = tmp_path / f"network-snapshot-{kimg:06.0f}.pkl"
        snapshot.touch()
        watch.add_scores(kimg, {"fd_real_per_image": 1.0, "fd": value, "is50k_mean": 1.0}, snapshot)
    assert watch.monitor.history.scores == [(4.0, 3.0)]
    assert read_best(tmp_path)["kimg"] == 4


def test_warnings_stand_at_the_end_of_the_line_of_a_tick(watch):
    assert watch.describe() == ""
    watch.monitor.add_tick({"Health/nonfinite_grads/Gmain": {"num": 1, "mean": 5.0, "std": 0.0}})
    assert watch.describe() == " warnings divergence"
