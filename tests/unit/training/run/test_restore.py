import pytest
import torch

from dnnlib.errors import UserError
from tests.image_files import images, write_folder
from torch_utils import distributed
from training.checkpoint import save_checkpoint
from training.dataset import ImageFolderDataset
from training.run import restore
from training.run.restore import describe_dataset, find_checkpoint, restore_from
from training.run.settings import TrainingSettings


class Counter:
    """What is restored."""

    number = 0

    def load_state_dict(self, state):
        self.number = state["number"]


@pytest.fixture
def dataset(tmp_path):
    return ImageFolderDataset(write_folder(tmp_path / "images", images(3)))


@pytest.fixture
def restore_here(tmp_path, dataset):
    """Restore a checkpoint whose content differs from a good one; returns the length of the log, the number, lines."""

    def restore_here(rank=0, **changes):
        tree = {"num_gpus": 1, "ranks": [{}], "log_bytes": 5, "counter": {"number": 7}, **changes}
        tree = {name: value for name, value in tree.items() if value is not None}
        path, counter, said = save_checkpoint(tmp_path, 4, tree), Counter(), []
        settings = TrainingSettings(training_set_kwargs={"path": "images"}, rank=rank)
        log_bytes = restore_from(path, {"counter": counter}, dataset, settings, said.append)
        return log_bytes, counter.number, said

    return restore_here


def test_what_was_saved_is_restored(restore_here, dataset):
    assert restore_here(dataset=describe_dataset(dataset)) == (5, 7, [])


def test_the_record_of_a_dataset(dataset):
    record = describe_dataset(dataset)
    assert record["num_images"] == 3
    assert record["sample"] is not None
    assert describe_dataset(torch.utils.data.TensorDataset(torch.zeros(4))) == {"num_images": 4}


@pytest.mark.parametrize("log_bytes", [None, -1, True, "5", 5.0])
def test_a_checkpoint_without_the_length_of_its_log_is_damaged(restore_here, log_bytes):
    with pytest.raises(UserError, match=r"training-state-000000004\.safetensors: is damaged: it lacks the length of"):
        restore_here(log_bytes=log_bytes)


def test_other_images_are_refused_before_anything_is_restored(restore_here, dataset, monkeypatch):
    monkeypatch.setattr(Counter, "load_state_dict", lambda self, state: pytest.fail("it is restored"))
    with pytest.raises(UserError, match="the images in images have changed since it was saved; restore them, or"):
        restore_here(dataset={**describe_dataset(dataset), "sample": "another"})


def test_other_numbers_of_images_are_left_to_the_sampler_which_tells_both(restore_here, dataset):
    assert restore_here(dataset={**describe_dataset(dataset), "num_images": 4, "sample": "another"})[1] == 7


def test_the_main_process_compares_for_all(restore_here, dataset, monkeypatch):
    monkeypatch.setattr(restore, "is_unchanged", lambda *_: pytest.fail("it reads the images"))
    monkeypatch.setattr(distributed, "from_rank0", lambda is_same: False)
    with pytest.raises(UserError, match="the images in images have changed"):
        restore_here(rank=1, dataset=describe_dataset(dataset))


def test_files_written_since_are_noted(restore_here, dataset):
    _log_bytes, number, said = restore_here(dataset={**describe_dataset(dataset), "newest_ns": 1})
    assert number == 7
    (line,) = said
    assert line.startswith("Note: files in ")
    assert " were written after the run began; " in line


def test_settings_that_have_changed_are_noted(restore_here):
    assert restore_here(options={"total_kimg": 3})[2] == [
        "Note: Settings that have changed since the checkpoint: total_kimg 3 -> 25000"
    ]


def test_the_newest_checkpoint_is_found_and_leftovers_go(tmp_path):
    assert find_checkpoint(tmp_path, pytest.fail) is None
    path, said = save_checkpoint(tmp_path, 4, {}), []
    damaged = save_checkpoint(tmp_path, 8, {})
    damaged.write_bytes(b"")
    (tmp_path / ".training-state-000000012.safetensors.0123abcd.tmp").touch()
    assert find_checkpoint(tmp_path, said.append) == path
    (line,) = said
    assert line.startswith(f"{damaged} does not match its checksum; renamed to {damaged.name}.damaged")
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_has_trained_needs_its_checkpoint(tmp_path):
    (tmp_path / "network-snapshot-000004.pkl").touch()
    with pytest.raises(UserError, match="has trained, but has no intact checkpoint"):
        find_checkpoint(tmp_path, pytest.fail)
