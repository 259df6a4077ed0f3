"""``python -m msconD.attach`` on a stand-in for the official checkout, in processes that see nothing else of this
repository: the modules whose names StyleGAN2-ADA fixes are ours, scripts and training loop are tests/stand_in/.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch

import legacy
from tests.helpers import REPOSITORY
from tests.training_runs import write_dataset

STAND_IN = REPOSITORY / "tests/stand_in"
GRID_SAMPLE = "torch_utils/ops/grid_sample_gradfix.py"  # the shim for PyTorch before 2.12
TRAINING_MODULES = ("__init__", "networks", "augment", "extensions", "loss", "round", "dataset")
OLD_SAMPLER = """

class InfiniteSampler(InfiniteSampler):
    def __init__(self, dataset, **kwargs):
        torch.utils.data.Sampler.__init__(self, dataset)
        super().__init__(dataset, **kwargs)
"""

WITHOUT_METHOD = """
import runpy, sys
sys.modules["msconD"] = None
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("dnnlib", "torch_utils"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "torch_utils/misc.py", "a") as f:
        f.write(OLD_SAMPLER)
    shutil.copytree(
        REPOSITORY / "training/data", folder / "training/data", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in TRAINING_MODULES:
        shutil.copy(REPOSITORY / f"training/{name}.py", folder / "training")
    shutil.copy(STAND_IN / "training_loop.py", folder / "training")
    for script in ("train.py", "generate.py"):
        shutil.copy(STAND_IN / script, folder)
    return folder


@pytest.fixture(scope="module")
def attach(checkout, tmp_path_factory):
    """Run a script of the checkout, attached, in a folder without modules if not in another."""
    alone, elsewhere = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(REPOSITORY / "msconD", alone / "msconD", ignore=shutil.ignore_patterns("__pycache__"))
    (alone / GRID_SAMPLE).parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / GRID_SAMPLE, alone / GRID_SAMPLE)
    shutil.copy(STAND_IN / "sitecustomize.py", alone)

    def run(*arguments, cwd=elsewhere, status=0):
        command = [sys.executable, "-m", "msconD.attach", checkout, *arguments]
        env = {**os.environ, "PYTHONPATH": str(alone), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
        assert result.returncode == status, result.stderr
        return result.stdout if status == 0 else result.stderr

    return run


def hashes(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_the_checkout_trains_with_the_method_and_opens_its_snapshots_alone(checkout, attach, tmp_path):
    data, before = write_dataset(tmp_path / "photos.zip", labeled=False), hashes(checkout)
    (tmp_path / "runs").mkdir()
    output = attach(
        *("train.py", f"--outdir={tmp_path / 'runs'}", f"--data={data}", "--mirror", "yes"),
        *("--cfg=msconD", "--scales", "1-8", "--con-temp=0.1"),
    )
    assert hashes(checkout) == before
    for shim in ("distutils", "Sampler", "sqrtm"):
        assert len([line for line in output.splitlines() if shim in line]) == 1

    (run_dir,) = (tmp_path / "runs").iterdir()
    assert run_dir.name == "00000-photos-stylegan2"
    assert json.loads((run_dir / "rank0.json").read_text()) == {
        "D": "MsConDDiscriminator",
        "batch_gpu": 8,
        "sqrtm_error": 0,
    }
    options = json.loads((run_dir / "training_options.json").read_text())
    assert options["batch_gpu"] == 8
    assert options["D_kwargs"]["class_name"] == "msconD.discriminator.MsConDDiscriminator"
    assert options["D_kwargs"]["scales"] == [1, 8]
    assert options["D_kwargs"]["channel_base"] == 64
    assert options["loss_kwargs"]["con_temp"] == 0.1
    stats = json.loads((run_dir / "stats.jsonl").read_text())
    assert {"Con/loss_h1", "Con/loss_h8", "Con/top1_h8", "Loss/scores/real_h8", "Loss/r1_penalty"} <= stats.keys()
    assert all(np.isfinite(entry["mean"]) for entry in stats.values() if entry["num"])

    snapshot = run_dir / "network-snapshot-000000.pkl"
    command = [sys.executable, "-c", WITHOUT_METHOD, checkout / "generate.py", f"--network={snapshot}", "--outdir=."]
    env = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    assert subprocess.check_output(command, cwd=tmp_path, env=env, text=True) == "MsConDDiscriminator [1, 1]\n"
    with PIL.Image.open(tmp_path / "seed0000.png") as img:
        assert img.size == (16, 16)
    with open(snapshot, "rb") as f:
        D = legacy.load_network_pkl(f)["D"]
    assert D(torch.zeros([2, 3, 16, 16]), None, all_scales=True).logits.keys() == {1, 8}


@pytest.mark.slow
def test_settings_that_do_not_suit_the_images_leave_no_run_folder(attach, tmp_path):
    data = write_dataset(tmp_path / "photos.zip", labeled=False)
    (tmp_path / "runs").mkdir()
    flags = [f"--outdir={tmp_path / 'runs'}", f"--data={data}", "--cfg=msconD", "--scales=1-16"]
    errors = attach("train.py", *flags, status=1).splitlines()
    assert [line for line in errors if line.startswith("Error: ")] == errors[-1:]
    assert "scales must be 1 and any of 4, 8 for images of 16 px" in errors[-1]
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.slow
def test_started_processes_are_attached_too_and_this_repository_stays_out_of_sight(attach, tmp_path):
    data = write_dataset(tmp_path / "photos.zip", labeled=False)
    (tmp_path / "runs").mkdir()
    flags = [f"--outdir={tmp_path / 'runs'}", f"--data={data}", "--gpus=2", "--cfg=multiscale", "--scales=1-8"]
    attach("train.py", *flags, cwd=REPOSITORY)
    for rank in (0, 1):
        result = json.loads((tmp_path / f"runs/00000-photos-stylegan2/rank{rank}.json").read_text())
        assert result == {"D": "MsConDDiscriminator", "batch_gpu": 4, "sqrtm_error": 0}
