"""With the real wandb, which sends nothing in its offline mode."""

import json
import sys

import numpy as np
import pytest
import wandb

from dnnlib.errors import UserError
from tests.training_runs import run_train, states, tiny_options, train_here, write_dataset
from training.run.wandb_run import ID_FILE, WandbRun, check_wandb


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def run_id(run_dir):
    return json.loads((run_dir / ID_FILE).read_bytes())["id"]


def parts(run_dir):
    """Files of what was logged, one for each part of the run."""
    return sorted(path.name for path in run_dir.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_a_continued_run_keeps_its_id(tmp_path):
    options = {**tiny_options(write_dataset(tmp_path / "data.zip"), 24), "image_snapshot_ticks": 1}
    run_dir = tmp_path / "run"
    assert not train_here(run_dir, options, log="wandb", abort_fn=lambda: True)
    assert train_here(run_dir, options, log="wandb")
    assert parts(run_dir) == [f"run-{run_id(run_dir)}.wandb"] * 2
    assert list(run_dir.glob("wandb/offline-run-*/files/media/images/Samples*.png"))
    assert states(run_dir)


@pytest.mark.slow
def test_train_script(tmp_path):
    data = write_dataset(tmp_path / "data.zip", labeled=False)
    flags = {"outdir": tmp_path, "data": data, "kimg": 1, "cbase": 64, "cmax": 16, "batch": 500, "metrics": "none"}
    assert run_train(log="wandb", workers=0, **flags).returncode == 0
    (run_dir,) = tmp_path.glob("00000-*")
    assert parts(run_dir) == [f"run-{run_id(run_dir)}.wandb"]


class Recorder:
    def __init__(self, error=None):
        self.logged = []
        self.error = error

    def log(self, values, step):
        if self.error:
            raise self.error
        self.logged.append((values, step))

    def finish(self):
        if self.error:
            raise self.error


@pytest.fixture
def began(monkeypatch):
    """Arguments of wandb.init, which begins nothing."""
    calls = []
    monkeypatch.setattr(wandb, "init", lambda **kwargs: calls.append(kwargs) or Recorder())
    return calls


def test_what_is_sent(tmp_path, began):
    (tmp_path / "training_options.json").write_text('{"batch_size": 4}')
    run = WandbRun(tmp_path)
    assert began[0]["config"] == {"batch_size": 4}
    assert began[0]["id"] == run_id(tmp_path)
    assert began[0]["settings"].console == "off"
    assert not began[0]["settings"].save_code
    run.write({"Loss/G/loss": 1.5}, 7, 1e9)
    run.write_image("Samples", np.zeros([4, 4, 3], np.uint8), 7)
    (values, step), (images, _step) = run._run.logged
    assert (values, step) == ({"Loss/G/loss": 1.5, "_timestamp": 1e9}, 7)
    assert images["Samples"].image.size == (4, 4)


def test_project(tmp_path, began, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    WandbRun(tmp_path)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    WandbRun(tmp_path)
    assert [each["project"] for each in began] == ["mscond", "mine"]


def test_a_failure_in_mid_training_is_one_of_writing(tmp_path, began):
    run = WandbRun(tmp_path)
    run._run = Recorder(wandb.Error("no space"))
    with pytest.raises(OSError, match="Weights & Biases: no space"):
        run.write({"a": 1.0}, 1)


def test_a_failure_at_the_end_too_whatever_its_class(tmp_path, began):
    run = WandbRun(tmp_path)
    run._run = Recorder(RuntimeError("its service is gone"))
    with pytest.raises(OSError, match="Weights & Biases: its service is gone"):
        run.close()


def test_an_environment_that_wandb_refuses(tmp_path, monkeypatch):
    def fail(**kwargs):
        raise ValueError("1 validation error for Settings\nmode\n  Input should be 'online' or 'offline'")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(UserError, match=r"^--log=wandb: [^\n]*; log in with `wandb login`, or set WANDB_MODE=offline$"):
        WandbRun(tmp_path)


def test_without_a_login(tmp_path, monkeypatch):
    def fail(**kwargs):
        raise wandb.Error("api_key not configured")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(UserError, match="api_key not configured; log in with `wandb login`, or set WANDB_MODE=offline"):
        WandbRun(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": "../x"}', '{"id": 5}', '{"id": ""}', "[" * 10**5])
def test_damaged_ids(tmp_path, began, content):
    (tmp_path / ID_FILE).write_text(content)
    with pytest.raises(UserError, match=r"wandb\.json .*delete it to begin a new run"):
        WandbRun(tmp_path)
    assert not began


def test_without_wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        check_wandb()
