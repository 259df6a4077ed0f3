"""What is not written is said, and remembered until it is written."""

import dataclasses
import errno

import pytest
import torch

from tests.training_runs import SMALL_GRIDS, tiny_options, write_dataset
from training import checkpoint
from training.dataset import ImageFolderDataset
from training.image_grid import SampleGrid
from training.run import outputs
from training.run.console import Console
from training.run.counters import Counters
from training.run.log import RunLog
from training.run.outputs import CHECKPOINT, SNAPSHOT, Outputs
from training.run.settings import TrainingSettings


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def files(tmp_path):
    data = write_dataset(tmp_path / "data.zip")
    settings = TrainingSettings(run_dir=str(tmp_path), progress="plain", **tiny_options(data, 100))
    with SMALL_GRIDS:
        samples = SampleGrid(ImageFolderDataset(data), 8, torch.device("cpu"))
    written = Outputs(settings, samples, Console(True, "plain"), log_bytes=0, counters=Counters(steps_per_kimg=1))
    yield written
    written.close()


def test_a_checkpoint_that_a_full_disk_has_no_room_for(files, monkeypatch, capsys):
    with monkeypatch.context() as full:
        full.setattr(checkpoint, "save_file", no_space)
        files.save_checkpoint(4, {"counters": {}}, {})
        assert not files.save_checkpoint(8, {"counters": {}}, {})
    said = "Not written, training goes on: [Errno 28] No space left on device"
    assert capsys.readouterr().out == f"{said}; a checkpoint is tried again after each tick\n", "once"
    assert files.missing(SNAPSHOT) is None
    assert files.missing(SNAPSHOT, CHECKPOINT) == "a checkpoint: [Errno 28] No space left on device"
    assert files.save_checkpoint(12, {"counters": {}}, {})
    assert files.missing(SNAPSHOT, CHECKPOINT) is None
    assert files.save_checkpoint(16, {"counters": {}}, {})
    assert capsys.readouterr().out == "Written again: a checkpoint\n", "once"


def test_weights_that_are_not_finite_keep_the_checkpoint_before(files, tmp_path, capsys):
    layer = torch.nn.Linear(1, 1)
    files.save_checkpoint(4, {}, {"G": layer})
    before = sorted(tmp_path.iterdir())
    layer.weight.data.fill_(torch.inf)
    assert files.save_checkpoint(8, {}, {"G": layer}), "in the next tick they will not be finite either"
    assert sorted(tmp_path.iterdir()) == before
    assert files.missing(CHECKPOINT) == "a checkpoint: the weights are not finite"
    assert "no checkpoint written, the last good one stays" in capsys.readouterr().out


def test_samples_are_returned_though_they_are_not_written(files, monkeypatch):
    def generator(z, c, noise_mode):
        return torch.zeros(len(z), 3, 16, 16)

    monkeypatch.setattr(outputs, "save_image_grid", no_space)
    assert files.save_samples("fakes000000.png", generator, 4).shape == (12, 3, 16, 16)
    assert "No space left" in files.missing("fakes000000.png")


def test_a_run_folder_that_was_moved_away_is_not_made_anew(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outputs, "save_portable", lambda folder, _network: folder.mkdir(parents=True))
    files._settings = dataclasses.replace(files._settings, snapshot_formats=("pkl", "safetensors"))
    files._run_dir = run_dir = tmp_path / "moved"
    files.save_snapshot(run_dir / "network-snapshot-000000.pkl", {"G_ema": torch.nn.Linear(1, 1)})
    assert not files.save_checkpoint(4, {"counters": {}}, {})
    assert not run_dir.exists()
    assert capsys.readouterr().out.count("No such file or directory") == 2


def test_files_are_closed_once(files, monkeypatch):
    files.close()
    monkeypatch.setattr(RunLog, "close", no_space)
    files.close()
    assert files.missing("stats.jsonl") is None
