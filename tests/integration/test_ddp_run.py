"""Two processes on the CPU: through `launch`, ``train.py --gpus`` and torchrun."""

import contextlib
import functools
import itertools
import json
import re
import signal
import subprocess
import sys
import unittest.mock

import psutil
import pytest
import torch

from dnnlib.errors import UserError
from metrics import metric_main
from tests.helpers import REPOSITORY
from tests.training_runs import (
    BATCH,
    assert_same_outcome,
    everything_random,
    new_run,
    signal_in_iteration,
    states,
    ticks,
    tiny_options,
    train_command,
    train_here,
    wait_for_ticks,
    write_dataset,
)
from torch_utils.distributed import init_world
from torch_utils.launch import launch
from training.batches import Batches
from training.data.codec import BadImageError
from training.dataset import ImageFolderDataset
from training.run.length import RunLength
from training.run.options_file import read_options
from training.run.status import read_status
from training.training_loop import training_loop

NUM_PROCESSES = 2
CPU = torch.device("cpu")
TOTAL_NIMG = 10 * 4
REG_INTERVAL = 4
MID_TICK = 3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "cats.zip")


def broken(opts):
    raise ZeroDivisionError("no images")


def ranks(opts):
    """A metric that needs all processes."""
    total = torch.tensor(float(opts.rank))
    torch.distributed.all_reduce(total)
    return {"ranks": float(total)}


def run_rank(run_dir, options, stop_in_iteration, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    for metric in (broken, ranks):
        metric_main.register_metric(metric)
    with signal_in_iteration(stop_in_iteration if world.rank == 1 else None):  # the other one must hear of it
        # Clocks differ: one thinks that a state is due in every tick, the other never.
        train_here(run_dir, options, rank=world.rank, state_interval_sec=[1e9, 0][world.rank])


def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path):
    options = tiny_options(data, TOTAL_NIMG, gpus=NUM_PROCESSES, **everything_random(batch_gpu=1))
    options.update(metrics=["broken", "ranks"], metrics_ticks=2, D_reg_interval=REG_INTERVAL)
    for name, stop_in_iteration in (("whole", None), ("parts", MID_TICK), ("parts", None)):
        launch(functools.partial(run_rank, tmp_path / name, options, stop_in_iteration), NUM_PROCESSES)
        if stop_in_iteration is not None:
            assert states(tmp_path / "parts")[-1].stem == f"training-state-{MID_TICK * 4:09d}"
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")
    results = [json.loads(line) for line in (tmp_path / "whole" / "metric-ranks.jsonl").read_text().splitlines()]
    assert [(line["num_gpus"], line["results"]) for line in results] == [(2, {"ranks": 1.0})] * 2  # ticks 2 and 3


def run_rank_until_images_are_lost(run_dir, options, world, init_method):
    """One of the processes cannot read its images any more, in the middle of a tick."""
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    iterations, next_inputs = itertools.count(1), Batches.next

    def lose_images(*_args):
        raise BadImageError("it is gone")

    def next_until_lost(batches, num_phases):
        if world.rank == 1 and next(iterations) == MID_TICK + 1:
            ImageFolderDataset._load_raw_image = lose_images
        return next_inputs(batches, num_phases)

    with unittest.mock.patch.object(Batches, "next", next_until_lost):
        train_here(run_dir, options, rank=world.rank, state_interval_sec=1e9)


def test_images_that_one_process_cannot_read_cost_no_training(data, tmp_path):
    options = tiny_options(data, 7 * BATCH, gpus=NUM_PROCESSES, **everything_random(batch_gpu=1))
    with pytest.raises(UserError, match=r"images are damaged.*it is gone$"):
        launch(functools.partial(run_rank_until_images_are_lost, tmp_path / "parts", options), NUM_PROCESSES)
    assert states(tmp_path / "parts")[-1].stem == f"training-state-{MID_TICK * BATCH:09d}"
    status = read_status(tmp_path / "parts")
    assert (status["reason"], status["kimg"]) == ("failed", MID_TICK * BATCH / 1000)
    assert status["error"].endswith("it is gone")
    for name in ("parts", "whole"):
        launch(functools.partial(run_rank, tmp_path / name, options, None), NUM_PROCESSES)
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")


def run_rank_in_time(run_dir, options, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    seconds = itertools.count(3 * world.rank)  # one per iteration; the clock of the second process is ahead
    look = RunLength.check_time_limit
    with unittest.mock.patch.object(
        RunLength, "check_time_limit", lambda self, elapsed_sec: look(self, float(next(seconds)))
    ):
        assert train_here(run_dir, options, rank=world.rank, time_limit_sec=7.0)


def test_processes_agree_that_the_time_is_over(data, tmp_path):
    options = tiny_options(data, TOTAL_NIMG, gpus=NUM_PROCESSES)
    launch(functools.partial(run_rank_in_time, tmp_path / "run", options), NUM_PROCESSES)
    status = read_status(tmp_path / "run")
    assert (status["reason"], status["kimg"]) == ("finished", 4 * BATCH / 1000)


@contextlib.contextmanager
def start(command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=REPOSITORY) as process:
        try:
            yield process
        except BaseException:
            process.terminate()  # or the end of the block would wait for a run that does not end
            raise


def finish(command):
    with start(command) as process:
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def train_rank(run_dir, options, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    training_loop(run_dir=str(run_dir), rank=world.rank, progress="none", **options)


@pytest.mark.slow
def test_gpus_and_torchrun(data, tmp_path):
    """A run of ``--gpus=2`` that is stopped from outside and continued by torchrun ends like an uninterrupted one."""
    flags = {"gpus": 2, "batch": 64, "tick": 0.06, "kimg": 1, "cbase": 64, "cmax": 16, "map_depth": 1, "workers": 0}
    run_dir = tmp_path / "00000-cats-auto2-kimg1-batch64"
    with start(train_command(outdir=tmp_path, data=data, metrics="none", snap=50, **flags)) as process:
        wait_for_ticks(run_dir, 3, process)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert f"Stopped; to continue: python train.py --continue={run_dir}" in output
    assert len(ticks(run_dir)) < 10
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    output = finish([*torchrun, *train_command(f"--continue={run_dir}")[1:]])
    assert output.count("Continuing from") == 1, "one process speaks"
    whole = new_run(tmp_path / "whole", read_options(run_dir))
    launch(functools.partial(train_rank, whole, read_options(run_dir)), NUM_PROCESSES)
    assert_same_outcome(run_dir, whole)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job_with_a_clear_line(data, tmp_path):
    options = tiny_options(data, 10**9, gpus=2)
    run_dir = new_run(tmp_path / "run", options)
    with start(train_command(f"--continue={run_dir}", state_minutes=0)) as process:
        wait_for_ticks(run_dir, 2, process)
        children = psutil.Process(process.pid).children()
        ranks = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(ranks) == 2
        ranks[1].kill()
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.endswith(f"Failed; to continue from the last checkpoint: python train.py --continue={run_dir}\n")
    status = read_status(run_dir)
    assert (status["reason"], status["error"]) == ("failed", "another process of this run has died")
    assert [line for line in errors.splitlines() if re.match(r"Error: rank [01] of 2 failed: ", line)]
    assert "train.py" not in errors, "no traceback of the process that only waits"
    assert not [rank for rank in ranks if rank.is_running()]
    options["total_kimg"] = (int(states(run_dir)[-1].stem[-9:]) + 12) / 1000
    launch(functools.partial(train_rank, run_dir, options), NUM_PROCESSES)
    assert json.loads((run_dir / "exit_status.json").read_text())["reason"] == "finished"
