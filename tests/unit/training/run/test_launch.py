import json

import pytest
import torch

from dnnlib.util import UserError
from tests.image_files import images, write_folder
from tests.training_runs import write_dataset
from torch_utils.distributed import World
from training.run import launch
from training.run.folder import read_options
from training.run.launch import RunRequest, prepare_run, train_run
from training.run.options import Flags
from training.training_loop import EXIT_STATUS


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "cats.zip")


def request(tmp_path, flags=None, **changes):
    values = {
        "outdir": tmp_path / "runs",
        "continue_run": None,
        "flags": None if flags is None else Flags(**{"metrics": (), **flags}),
        "device": "cpu",
        "runtime": {"progress": "none"},
        "kimg": None,
        "is_dry_run": False,
    }
    return RunRequest(**{**values, **changes})


# Preparing


def test_a_new_run_has_a_folder_with_its_options(tmp_path, data):
    run_dir, kwargs = prepare_run(request(tmp_path, {"data": str(data), "cond": True}))
    assert run_dir == tmp_path / "runs" / "00000-cats-cond-auto1"
    assert [path.name for path in run_dir.iterdir()] == ["training_options.json"]
    assert kwargs == {**read_options(run_dir), "progress": "none"}
    assert kwargs["training_set_kwargs"]["use_labels"]


def test_what_is_printed(tmp_path, data, capsys):
    run_dir, _kwargs = prepare_run(request(tmp_path, {"data": str(data)}))
    text = capsys.readouterr().out
    options, rest = text.removeprefix("Training options:\n").split("\nImages:")
    assert json.loads(options) == read_options(run_dir)
    assert "24 of 16 px, with labels" in rest
    assert rest.endswith(f"Run folder: {run_dir}\n")


def test_a_dry_run_writes_nothing(tmp_path, data, capsys):
    assert train_run(request(tmp_path, {"data": str(data)}, is_dry_run=True))
    assert [path.name for path in tmp_path.iterdir()] == ["cats.zip"]
    assert capsys.readouterr().out.endswith("Dry run: nothing was written.\n")


@pytest.fixture
def eight_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1 << 30))


@pytest.mark.usefixtures("eight_gpus")
def test_more_processes_than_gpus_of_this_machine(tmp_path, data):
    with pytest.raises(UserError, match=r"^--gpus=16: CUDA devices on this machine: 8; use --gpus=8$"):
        train_run(request(tmp_path, {"data": str(data), "gpus": 16, "batch": 16}, device="cuda"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("eight_gpus")
def test_processes_of_several_machines_may_be_more(tmp_path, data):
    """As torchrun starts them, each with a device of its own machine."""
    prepare_run(request(tmp_path, {"data": str(data), "gpus": 16, "batch": 16}, device="cuda"))


def test_a_folder_of_images_serves_as_data(tmp_path):
    data = write_folder(tmp_path / "dogs", images(3))
    run_dir, _kwargs = prepare_run(request(tmp_path, {"data": str(data)}))
    assert run_dir.name == "00000-dogs-auto1"


@pytest.mark.parametrize("changes", [{"outdir": None}, {"flags": None}])
def test_a_new_run_needs_data_and_a_place(tmp_path, data, changes):
    with pytest.raises(
        UserError, match=r"^a new run needs --outdir and --data; --continue=RUN goes on with an old one$"
    ):
        prepare_run(request(tmp_path, **{"flags": {"data": str(data)}, **changes}))


def test_settings_of_a_network_are_checked_before_anything_is_written(tmp_path, data):
    with pytest.raises(UserError, match=r"^scales must contain 1"):
        prepare_run(request(tmp_path, {"data": str(data), "cfg": "msconD"}))  # its default scales need 32 px
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_does_not_exist(tmp_path, data):
    with pytest.raises(UserError, match=r"there is no metric 'fid5k'; known are fid50k_full, .*, or none$"):
        prepare_run(request(tmp_path, {"data": str(data), "metrics": ("fid50k_full", "fid5k")}))


# Continuing


@pytest.fixture
def run_dir(tmp_path, data):
    return prepare_run(request(tmp_path, {"data": str(data)}))[0]


def test_a_run_goes_on_with_its_own_options(tmp_path, run_dir, capsys):
    found, kwargs = prepare_run(request(tmp_path, continue_run="latest", unused_flags=("--gamma", "--data")))
    assert found == run_dir
    assert kwargs == {**read_options(run_dir), "progress": "none"}
    text = capsys.readouterr().out
    assert text.endswith(
        f"Continuing {run_dir} with the options it began with\n"
        "Warning: no effect on a run that is continued: --gamma, --data\n"
    )


def test_a_run_can_be_made_longer(tmp_path, run_dir):
    _run_dir, kwargs = prepare_run(request(tmp_path, continue_run=str(run_dir), kimg=7))
    assert kwargs["total_kimg"] == 7


# How it ends


def end(run_dir, monkeypatch, is_finished, writes_status=True):
    """`train_run` with a training loop that does nothing."""

    def loop(run_dir, **_kwargs):
        if writes_status:
            (tmp / EXIT_STATUS).write_text(json.dumps({"reason": "finished" if is_finished else "stopped"}))
        return is_finished

    tmp = run_dir
    monkeypatch.setattr(launch, "training_loop", loop)
    return train_run(request(run_dir.parent, continue_run=str(run_dir)))


@pytest.mark.parametrize("is_finished", [True, False])
def test_whether_training_is_complete(run_dir, monkeypatch, capsys, is_finished):
    assert end(run_dir, monkeypatch, is_finished) == is_finished
    line = f"Stopped; to go on: python train.py --continue={run_dir}\n"
    assert (line in capsys.readouterr().out) == (not is_finished)
    assert (line == (run_dir / "log.txt").read_text()) == (not is_finished)


def test_an_old_status_does_not_count(run_dir, monkeypatch):
    (run_dir / EXIT_STATUS).write_text('{"reason": "finished"}')
    assert not end(run_dir, monkeypatch, is_finished=True, writes_status=False)


# Under torchrun


def test_the_number_of_processes_is_that_of_the_run(tmp_path, run_dir, monkeypatch):
    monkeypatch.setattr(launch.distributed, "world_from_env", lambda: World(0, 2, 0))
    monkeypatch.setattr(launch.distributed, "init_world", lambda *_args: None)
    monkeypatch.setattr(launch, "gather", lambda value, _world_size: [value])
    with pytest.raises(UserError, match=f"{run_dir.name} is of 1 processes, got 2; start as many$"):
        train_run(request(tmp_path, continue_run=str(run_dir)))
