"""Runs that are made to fail: each is recognized for what it is, and a run that goes well is not."""

import io

import numpy as np
import pytest
from PIL import Image

from metrics import metric_main
from tests.image_files import write_zip
from tests.training_runs import BATCH, read_stats, tiny_options, train_here, write_dataset

NUM_TICKS = 30
PLAIN_COLORS = [(230, 30, 30), (30, 230, 30), (30, 30, 230)]
STANDING_STILL = 1e-9
"""A learning rate."""


def fd_constant(opts):
    return {"fd_constant": 100.0}


def write_plain_images(path):
    """So few and simple images that even the smallest generator can learn them by heart."""
    files = {}
    for i, color in enumerate(PLAIN_COLORS):
        Image.new("RGB", (8, 8), color).save(file := io.BytesIO(), "png")
        files[f"{i}.png"] = file.getvalue()
    return write_zip(path, files)


def write_pale_images(path):
    """Images that differ little, so that those of an untrained generator differ about as much."""
    rng, files = np.random.RandomState(0), {}
    for i in range(24):
        pixels = rng.randint(64, 192, [16, 16, 3]).astype(np.uint8)
        Image.fromarray(pixels).save(file := io.BytesIO(), "png")
        files[f"{i:02d}.png"] = file.getvalue()
    return write_zip(path, files)


def warnings_of_a_run(tmp_path, capsys, data, num_iterations, flags=None, more=None):
    """Train, and return the kinds of warnings in the statistics and the text of those on the screen."""
    options = {
        **tiny_options(data, num_iterations * BATCH, **{"aug": "noaug", **(flags or {})}),
        "image_snapshot_ticks": NUM_TICKS // 5,
        "kimg_per_tick": num_iterations * BATCH / 1000 / NUM_TICKS,
        "progress": "plain",
        **(more or {}),
    }
    assert train_here(tmp_path / "run", options)
    stats = read_stats(tmp_path / "run")
    kinds = {name.removeprefix("Health/alarm/") for line in stats for name in line if name.startswith("Health/alarm/")}
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    return kinds, said


ADAPTIVE = {"aug": "ada", "target": -1.0}  # overfitting, whatever D does
QUICK = {"ada_kimg": 0.02, "ada_interval": 1}
FAILURES = {
    "divergence": (30, {"glr": 100.0, "dlr": 100.0}, {}, "training diverges"),
    "discriminator_ahead": (150, {"glr": STANDING_STILL, "dlr": 0.01}, {}, "the discriminator is far ahead"),
    "augmentation_at_limit": (60, {**ADAPTIVE, "ada_max_p": 0.1}, QUICK, "the augmentation probability has been at"),
    "augmentation_may_leak": (90, {**ADAPTIVE, "augpipe": "bg"}, QUICK, "the augmentation probability has been above"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILURES)
def test_failures(kind, tmp_path, capsys):
    num_iterations, flags, more, text = FAILURES[kind]
    data = write_dataset(tmp_path / "data.zip")
    kinds, said = warnings_of_a_run(tmp_path, capsys, data, num_iterations, flags, more)
    assert kind in kinds
    assert any(line.startswith(f"Warning: {text}") for line in said)


@pytest.mark.slow
def test_mode_collapse(tmp_path, capsys):
    flags = {"glr": 0.02, "dlr": STANDING_STILL}
    kinds, said = warnings_of_a_run(tmp_path, capsys, write_pale_images(tmp_path / "data.zip"), 250, flags)
    assert "mode_collapse" in kinds
    assert any(line.startswith("Warning: mode collapse: the samples differ") for line in said)


@pytest.mark.slow
def test_memorization(tmp_path, capsys):
    data = write_plain_images(tmp_path / "data.zip")
    flags = {"glr": 0.005, "dlr": 0.005, "gamma": 0.1}
    kinds, said = warnings_of_a_run(tmp_path, capsys, data, 400, flags, {"ema_kimg": 0.05})
    assert "memorization" in kinds
    assert any(line.startswith("Warning: samples repeat training images") for line in said)


def write_landscapes(path):
    """Images that are dark above and bright below: whether one is turned can be seen."""
    rng, files = np.random.RandomState(0), {}
    for i in range(24):
        halves = [np.broadcast_to(rng.randint(low, low + 90, 3), [4, 8, 3]) for low in (20, 145)]
        Image.fromarray(np.concatenate(halves).astype(np.uint8)).save(file := io.BytesIO(), "png")
        files[f"{i:02d}.png"] = file.getvalue()
    return write_zip(path, files)


@pytest.mark.slow
def test_leaks(tmp_path, capsys):
    """If all images are turned by any angle, G cannot tell which is right (arXiv 2006.06676, section 2.2)."""
    flags = {"glr": 0.01, "dlr": 0.01, "gamma": 0.1, "aug": "fixed", "p": 1.0, "augpipe": "blit"}
    data = write_landscapes(tmp_path / "data.zip")
    kinds, said = warnings_of_a_run(tmp_path, capsys, data, 500, flags, {"ema_kimg": 0.05})
    assert kinds == {"augmentation_leaks"}
    assert any(line.startswith("Warning: augmentations leak into the samples") for line in said)


@pytest.mark.slow
def test_stagnation(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))
    metric_main.register_metric(fd_constant)
    more = {"metrics": ["fd_constant"], "network_snapshot_ticks": 3}
    kinds, said = warnings_of_a_run(tmp_path, capsys, write_dataset(tmp_path / "data.zip"), 60, more=more)
    assert kinds == {"stagnation"}
    assert said[0].startswith("Warning: fd_constant has not improved for 8 evaluations")


@pytest.mark.slow
def test_a_run_that_goes_well(tmp_path, capsys):
    kinds, said = warnings_of_a_run(tmp_path, capsys, write_dataset(tmp_path / "data.zip"), 150)
    assert (kinds, said) == (set(), [])
