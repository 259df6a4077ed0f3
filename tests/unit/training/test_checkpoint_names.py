import pytest

from training.checkpoint_names import (
    checkpoint_name,
    checkpoint_nimg,
    has_checkpoint,
    has_had_checkpoint,
    list_checkpoints,
    saved_nimg,
)


@pytest.mark.parametrize("nimg", [0, 9600, 123_456_789, 1_234_567_890])
def test_names_there_and_back(nimg):
    assert checkpoint_nimg(checkpoint_name(nimg)) == nimg


@pytest.mark.parametrize(
    "name",
    [
        "training-state-000000004.sha256",
        "training-state-4.safetensors",
        "training-state-000000004.safetensors.damaged",
        ".training-state-000000004.safetensors",
        "training-state-000000004xsafetensors",
    ],
)
def test_other_files_are_not_checkpoints(tmp_path, name):
    (tmp_path / name).touch()
    assert checkpoint_nimg(name) is None
    assert list_checkpoints(tmp_path) == []
    assert saved_nimg(tmp_path) == 0
    assert not has_checkpoint(tmp_path)


def test_checkpoints_of_a_run(tmp_path):
    assert not has_had_checkpoint(tmp_path)
    paths = [tmp_path / checkpoint_name(nimg) for nimg in (4000, 8000, 1_000_000_000)]
    for path in reversed(paths):
        path.touch()
    assert list_checkpoints(tmp_path) == paths
    assert saved_nimg(tmp_path) == 1_000_000_000
    assert has_checkpoint(tmp_path)


def test_a_damaged_checkpoint_is_remembered(tmp_path):
    (tmp_path / f"{checkpoint_name(4)}.damaged").touch()
    assert has_had_checkpoint(tmp_path)
    assert not has_checkpoint(tmp_path)
