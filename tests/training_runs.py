"""Tiny but complete training runs on the CPU, in this process or in new ones, and what they leave behind."""

import contextlib
import copy
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Iterator
from pathlib import Path

import torch
import torch._dynamo  # here and in the next line: what the first run would import, so that the fork server has it
import torch.utils.tensorboard
from safetensors import safe_open
from safetensors.torch import load_file

from tests.helpers import REPOSITORY
from tests.image_files import images, write_zip
from tests.processes import forked, run_script
from training.batches import Batches
from training.dataset import ImageFolderDataset
from training.run.dataset_info import DatasetInfo
from training.run.launch import train_run  # noqa: F401 (for the fork server)
from training.run.options import Flags, resolve
from training.run.options_file import write_options
from training.run.settings import TrainingSettings
from training.training_loop import Trainer, training_loop

NUM_IMAGES = 24
RESOLUTION = 16
BATCH = 4
SMALL_GRIDS = unittest.mock.patch("training.image_grid.grid_size", return_value=(4, 3))


def write_dataset(path: Path, num=NUM_IMAGES, resolution=RESOLUTION, mode="RGB", labeled=True) -> Path:
    """A zip of random images, labeled 0, 1, 2 in turn."""
    files = images(num, size=(resolution, resolution), mode=mode)
    return write_zip(path, files, [[name, i % 3] for i, name in enumerate(files)] if labeled else None)


def tiny_options(data: Path, total_nimg: int, z_dim=8, **flags) -> dict:
    """Arguments of the loop for the smallest networks; a tick is three batches, and no grids or snapshots are made."""
    defaults = {"batch": BATCH, "cbase": 64, "cmax": 16, "map_depth": 1, "metrics": (), "workers": 0, "tick": 0.012}
    dataset = ImageFolderDataset(data, use_labels=True)
    info = DatasetInfo(dataset.name, dataset.resolution, len(dataset), dataset.has_labels)
    kwargs = resolve(Flags(data=str(data), **{**defaults, **flags}), info)
    kwargs["G_kwargs"].update({name: z_dim for name in ("z_dim", "w_dim") if name in kwargs["G_kwargs"]})
    kwargs.update(image_snapshot_ticks=None, network_snapshot_ticks=None, total_kimg=total_nimg / 1000)
    return kwargs


def everything_random(**flags) -> dict:
    """Flags that leave nothing out: ADA that moves, labels, mirrored images, accumulation in rounds, style mixing."""
    return {"cond": True, "mirror": True, "batch_gpu": 2, "aug": "ada", "target": 0.5, **flags}


def new_run(run_dir: Path, options: dict) -> Path:
    """A run folder in which nothing has happened yet; ``train.py --continue`` trains it."""
    run_dir.mkdir()
    write_options(run_dir, options)
    return run_dir


def train_here(run_dir: Path, options: dict, **more) -> bool:
    """Begin or continue a run, with small sample grids."""
    run_dir.mkdir(exist_ok=True)
    with SMALL_GRIDS:
        return training_loop(run_dir=str(run_dir), **{"progress": "none", **options, **more})


def make_trainer(run_dir: Path, options: dict) -> Trainer:
    """What `training_loop` runs."""
    run_dir.mkdir(exist_ok=True)
    with SMALL_GRIDS:
        return Trainer(TrainingSettings(run_dir=str(run_dir), progress="none", **copy.deepcopy(options)))


@contextlib.contextmanager
def signal_in_iteration(number: int | None, signum: int = signal.SIGTERM) -> Iterator[None]:
    """Let this process send itself a signal in the n-th iteration; None for never."""
    count = itertools.count(1)
    original = Batches.next

    def next_with_signal(self, num_phases):
        if next(count) == number:
            os.kill(os.getpid(), signum)
        return original(self, num_phases)

    with unittest.mock.patch.object(Batches, "next", next_with_signal):
        yield


def _train_there(run_dir: Path, options: dict, stop_in_iteration: int | None) -> None:
    torch.set_num_threads(1)
    with signal_in_iteration(stop_in_iteration):
        sys.exit(0 if train_here(run_dir, options) else 75)


def train_there(run_dir: Path, options: dict, stop_in_iteration: int | None = None) -> int:
    """Begin or continue a run in a new process, and return its exit status."""
    process = forked(_train_there, run_dir, options, stop_in_iteration)
    process.start()
    process.join()
    return process.exitcode


def train_command(*arguments, **flags) -> list[str]:
    """A command line of the real ``train.py`` on the CPU."""
    flags = {"device": "cpu", **flags}
    return [
        *(sys.executable, str(REPOSITORY / "train.py"), *arguments),
        *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()),
    ]


def run_train(*arguments, **flags) -> subprocess.CompletedProcess:
    """Run the real ``train.py``, but not in a new interpreter."""
    return run_script(*train_command(*arguments, **flags)[1:])


def complaints(stderr: str) -> list[str]:
    """Lines on stderr, without the signs of life that a slow machine gives."""
    return [line for line in stderr.splitlines() if not line.startswith("Still ")]


def states(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("training-state-*.safetensors"))


def newest_state(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(states(run_dir)[-1])


def plain_values(run_dir: Path) -> dict:
    """What else is in the newest state, without clocks and what `reproducible_stats` compares."""
    with safe_open(states(run_dir)[-1], framework="pt") as file:
        tree = json.loads(file.metadata()["tree"])
    counters = {name: value for name, value in tree.pop("counters").items() if not name.endswith("_sec")}
    for rank in tree["ranks"]:
        del rank["stats"]
    del tree["log_bytes"]
    return {**tree, "counters": counters}


def read_stats(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def reproducible_stats(run_dir: Path) -> list[dict]:
    """The statistics without what depends on the clock and the machine."""
    ignored = re.compile(r"Timing/.*|Resources/.*|timestamp")
    return [
        {name: value for name, value in line.items() if not ignored.fullmatch(name)} for line in read_stats(run_dir)
    ]


def ticks(run_dir: Path) -> list[int]:
    return [int(line["Progress/tick"]["mean"]) for line in read_stats(run_dir)]


def wait_for_ticks(run_dir: Path, num: int, process: subprocess.Popen, timeout_sec: float = 120) -> None:
    deadline = time.monotonic() + timeout_sec
    while not (run_dir / "stats.jsonl").exists() or len(ticks(run_dir)) < num:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_outcome(run_dir: Path, expected_dir: Path) -> None:
    """Both runs ended in the same place: every tensor of the final state and every statistic is equal."""
    actual, expected = newest_state(run_dir), newest_state(expected_dir)
    assert states(run_dir)[-1].name == states(expected_dir)[-1].name
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert not different, different
    assert plain_values(run_dir) == plain_values(expected_dir)
    assert reproducible_stats(run_dir) == reproducible_stats(expected_dir)
    assert ticks(run_dir) == list(range(len(ticks(run_dir))))
