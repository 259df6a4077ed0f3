import json
import math

import pytest
import torch

from dnnlib.errors import UserError
from tests.unit.training.run.launch_requests import request
from torch_utils.launch import ProcessError, World
from training.run import launch
from training.run.launch import prepare_run, train_run
from training.run.options_file import read_options, write_options
from training.run.status import STATUS_FILE, read_status, write_status


def test_a_dry_run_writes_nothing(tmp_path, data, capsys):
    assert train_run(request(tmp_path, {"data": str(data)}, dry_run=True))
    assert [path.name for path in tmp_path.iterdir()] == ["cats.zip"]
    assert capsys.readouterr().out.endswith("Dry run: nothing was written.\n")


@pytest.mark.usefixtures("eight_gpus")
def test_more_processes_than_gpus_of_this_machine(tmp_path, data):
    with pytest.raises(UserError, match=r"^--gpus=16: CUDA devices on this machine: 8; use --gpus=8$"):
        train_run(request(tmp_path, {"data": str(data), "gpus": 16, "batch": 16}, device="cuda"))
    assert not (tmp_path / "runs").exists()


def end(run_dir, monkeypatch, is_finished, writes_status=True):
    """`train_run` with a training loop that does nothing."""

    def loop(run_dir, **_kwargs):
        if writes_status:
            (tmp / STATUS_FILE).write_text(json.dumps({"reason": "finished" if is_finished else "stopped"}))
        return is_finished

    tmp = run_dir
    monkeypatch.setattr(launch, "training_loop", loop)
    return train_run(request(run_dir.parent, continue_run=str(run_dir)))


@pytest.mark.parametrize("is_finished", [True, False])
def test_whether_training_is_complete(run_dir, monkeypatch, capsys, is_finished):
    assert end(run_dir, monkeypatch, is_finished) == is_finished
    stopped = f"Stopped; to continue: python train.py --continue={run_dir}\n"
    line = f"Finished. Run folder: {run_dir}\n" if is_finished else stopped
    assert capsys.readouterr().out.endswith(line)
    options, _end = json.JSONDecoder().raw_decode((run_dir / "log.txt").read_text().removeprefix("Training options:\n"))
    assert options["total_kimg"] == 25000
    assert (run_dir / "log.txt").read_text().endswith("}\n" + line)


def test_the_warnings_of_the_last_tick_come_before_the_last_line(run_dir, monkeypatch, capsys):
    health = [{"kind": "divergence", "text": "training diverges: 5 gradient values"}, "damaged", {"text": 1}]
    written = json.dumps({"reason": "finished", "health": health})
    monkeypatch.setattr(launch, "training_loop", lambda **_kwargs: (run_dir / STATUS_FILE).write_text(written))
    train_run(request(run_dir.parent, continue_run=str(run_dir)))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Warning at the last tick: training diverges: 5 gradient values",
        f"Finished. Run folder: {run_dir}",
    ]


def test_an_old_status_does_not_count(run_dir, monkeypatch):
    write_status(run_dir, "stopped", 1, 25000)
    (run_dir / "training-state-000001000.safetensors").touch()
    assert not end(run_dir, monkeypatch, is_finished=True, writes_status=False)


def fail(*_args, **_kwargs):
    raise UserError("no such snapshot")


def test_a_start_that_fails_leaves_no_folder(tmp_path, data, monkeypatch):
    monkeypatch.setattr(launch, "training_loop", fail)
    with pytest.raises(UserError, match="no such snapshot"):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


def test_a_run_that_fails_later_keeps_its_folder(tmp_path, data, monkeypatch):
    def fail_later(run_dir, **_kwargs):
        (tmp_path / "runs" / "00000-cats-auto1" / "stats.jsonl").write_text("{}\n{}\n")
        fail()

    monkeypatch.setattr(launch, "training_loop", fail_later)
    with pytest.raises(UserError, match="no such snapshot"):
        train_run(request(tmp_path, {"data": str(data)}))
    assert (tmp_path / "runs" / "00000-cats-auto1" / "training_options.json").exists()


@pytest.mark.parametrize(("reason", "is_said"), [("failed", True), ("unsaved", True), ("diverged", False)])
def test_how_to_go_on_after_an_error(run_dir, monkeypatch, capsys, reason, is_said):
    (run_dir / "training-state-000001000.safetensors").touch()

    def fail_in_training(**_kwargs):
        write_status(run_dir, reason, 1, 25000)
        fail()

    monkeypatch.setattr(launch, "training_loop", fail_in_training)
    with pytest.raises(UserError, match="no such snapshot"):
        train_run(request(run_dir.parent, continue_run=str(run_dir)))
    line = f"Failed; to continue from the last checkpoint: python train.py --continue={run_dir}\n"
    assert capsys.readouterr().out.endswith(line) == is_said


@pytest.mark.parametrize("is_running_elsewhere", [False, True])
def test_a_main_process_that_is_killed_among_several(run_dir, monkeypatch, capsys, is_running_elsewhere):
    def die(*_args):
        write_status(run_dir, "running", 1, 25000, retried="network-snapshot-000001.pkl")
        (run_dir / "training-state-000001000.safetensors").touch()
        raise ProcessError("rank 0 of 2 failed: process 0 terminated with signal SIGKILL\nMore")

    monkeypatch.setattr(launch, "launch", die)
    monkeypatch.setattr(launch, "is_locked", lambda _run_dir: is_running_elsewhere)
    with pytest.raises(ProcessError):
        train_run(request(run_dir.parent, continue_run=str(run_dir)))
    status = read_status(run_dir)
    if is_running_elsewhere:
        assert status["reason"] == "running"
        return
    assert (status["reason"], status["kimg"], status["total_kimg"]) == ("failed", 1, 25000)
    assert status["error"] == "rank 0 of 2 failed: process 0 terminated with signal SIGKILL"
    assert status["retried"] == "network-snapshot-000001.pkl"  # or its metrics might kill the run again and again
    assert "Failed; to continue from the last checkpoint" in capsys.readouterr().out


def test_a_second_ctrl_c(run_dir, monkeypatch, capsys):
    def interrupt(**_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "training_loop", interrupt)
    assert not train_run(request(run_dir.parent, continue_run=str(run_dir)))
    assert capsys.readouterr().out.endswith(f"the last checkpoint: python train.py --continue={run_dir}\n")


def test_a_second_ctrl_c_that_ends_several_processes(run_dir, monkeypatch, capsys):
    """They keep it to themselves."""
    monkeypatch.setattr(launch, "launch", lambda *_args: write_status(run_dir, "interrupted", 1, 25000))
    assert not train_run(request(run_dir.parent, continue_run=str(run_dir)))
    assert capsys.readouterr().out.endswith(f"the last checkpoint: python train.py --continue={run_dir}\n")


def test_a_second_ctrl_c_before_several_processes_have_trained_leaves_no_folder(tmp_path, data, monkeypatch):
    folder = tmp_path / "runs" / "00000-cats-auto1"
    monkeypatch.setattr(launch, "launch", lambda *_args: write_status(folder, "interrupted", 0, 25000))
    with pytest.raises(KeyboardInterrupt):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not folder.exists()


def test_the_number_of_processes_is_that_of_the_run(tmp_path, run_dir, monkeypatch):
    monkeypatch.setattr(launch, "world_from_env", lambda: World(0, 2, 0))
    monkeypatch.setattr(launch.distributed, "init_world", lambda *_args: None)
    with pytest.raises(UserError, match=f"{run_dir.name} is a run of 1 process, got 2; start 1$"):
        train_run(request(tmp_path, continue_run=str(run_dir)))


def test_a_checkpoint_is_saved_sometime(tmp_path, data, run_dir):
    for changes in ({"flags": {"data": str(data)}}, {"continue_run": str(run_dir)}):
        with pytest.raises(
            UserError, match=r"^--state-minutes: state_interval_sec is nan, but must be a non-negative number"
        ):
            prepare_run(request(tmp_path, state_minutes=math.nan, **changes))


def test_as_many_processes_as_the_machine_can_run(tmp_path, data):
    with pytest.raises(UserError, match=r"^--gpus=5000: CPU cores"):
        train_run(request(tmp_path, {"data": str(data), "gpus": 5000, "batch": 5000}))
    assert not (tmp_path / "runs").exists()


def test_a_run_from_elsewhere_cannot_start_thousands_of_processes(run_dir):
    options = read_options(run_dir)
    write_options(run_dir, {**options, "num_gpus": 5000, "batch_size": 5000, "batch_gpu": 1})
    with pytest.raises(UserError, match=r"^--gpus=5000: CPU cores"):
        train_run(request(run_dir.parent, continue_run=str(run_dir)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nMore"), r"^out of memory \(CUDA out of memory\.\): stop other"),
        (OSError(28, "No space left on device", "/runs/x/log.txt"), "^training cannot go on: /runs/x/log.txt: No"),
    ],
)
def test_lack_of_memory_or_disk_space(tmp_path, data, monkeypatch, error, said):
    def loop(**_kwargs):
        raise error

    monkeypatch.setattr(launch, "training_loop", loop)
    with pytest.raises(UserError, match=said):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())


def test_a_process_that_loses_another_says_so_in_one_line(run_dir, monkeypatch):
    def loop(**_kwargs):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(launch, "training_loop", loop)
    monkeypatch.setattr(launch.distributed, "is_peer_lost", lambda error: True)
    with pytest.raises(ProcessError, match=r"^another process of this run has died; its own error, if it left one,"):
        train_run(request(run_dir.parent, continue_run=str(run_dir)))


def test_ctrl_c_before_training_leaves_no_folder(tmp_path, data, monkeypatch):
    def interrupt(**_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "training_loop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_run(request(tmp_path, {"data": str(data)}))
    assert not list((tmp_path / "runs").iterdir())
