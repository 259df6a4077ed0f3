"""Two processes on the CPU: through `launch`, ``train.py --gpus`` and torchrun."""

import functools

import pytest
import torch

from tests.training_runs import (
    assert_same_outcome,
    everything_random,
    signal_in_iteration,
    states,
    tiny_options,
    train_here,
    write_dataset,
)
from torch_utils.distributed import init_world, launch

NUM_PROCESSES = 2
CPU = torch.device("cpu")
TOTAL_NIMG = 21 * 4
MID_TICK = 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


# Exact continuation


def run_rank(run_dir, options, stop_in_iteration, world, init_method):
    init_world(world.rank, world.world_size, CPU, init_method, timeout_sec=60)
    with signal_in_iteration(stop_in_iteration if world.rank == 1 else None):  # the other one must hear of it
        # Clocks differ: one thinks that a state is due in every tick, the other never.
        train_here(run_dir, options, rank=world.rank, state_interval_sec=[1e9, 0][world.rank])


def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path):
    options = tiny_options(data, TOTAL_NIMG, gpus=NUM_PROCESSES, **everything_random(batch_gpu=1))
    launch(functools.partial(run_rank, tmp_path / "whole", options, None), NUM_PROCESSES)
    launch(functools.partial(run_rank, tmp_path / "parts", options, MID_TICK), NUM_PROCESSES)
    assert [path.name for path in states(tmp_path / "parts")][-1] == f"training-state-{MID_TICK * 4:09d}.safetensors"
    launch(functools.partial(run_rank, tmp_path / "parts", options, None), NUM_PROCESSES)
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")
