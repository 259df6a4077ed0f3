"""Every method and combination trains, is saved and goes on bit by bit, also with two processes."""

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
    train_there,
    write_dataset,
)
from torch_utils.distributed import init_world
from torch_utils.launch import launch

BATCH = 4
NUM_PROCESSES = 2
ADDITIONS = {"lecam": 0.1, "apa": True, "apa_kimg": 0.02, "san": True}
EVERYTHING = {**ADDITIONS, "loss": "relativistic"}

QUICK_COMBINATIONS = {
    "diffaug": {"aug": "diffaug"},
    "extensions": {"aug": "noaug", "settings": ADDITIONS},
    "insgen": {"cfg": "insgen", "aug": "noaug", "batch_gpu": 2},
}
"""One of each kind: an augmentation, extensions, a method with networks of its own."""

COMBINATIONS = {
    "lecam": {"settings": {"lecam": 0.1}},
    "apa": {"settings": {"apa": True, "apa_kimg": 0.02}},
    "relativistic": {"settings": {"loss": "relativistic"}},
    "san": {"aug": "noaug", "settings": {"san": True}},
    "insgen with linear p": {"cfg": "insgen", "settings": {"ada_linear": True}},
    "insgen with all": {"cfg": "insgen", "settings": EVERYTHING},
    "all of them": {"batch_gpu": 2, "settings": EVERYTHING},
    "msconD with all": {"cfg": "msconD", "settings": {"scales": [1, 8], **EVERYTHING}},
    "msconD with additions": {"cfg": "msconD", "aug": "diffaug", "settings": {"scales": [1, 8], **ADDITIONS}},
}

# Their feature network takes images of 224 px.
SLOW_COMBINATIONS = {
    "projected": {"cfg": "projected", "batch": 2, "batch_gpu": 1},
    "projected with additions": {"cfg": "projected-fastgan", "batch": 2, "settings": {"lecam": 0.3, "apa": True}},
}

IN_TWO_PROCESSES = {
    "insgen": everything_random(cfg="insgen", batch_gpu=1),
    "insgen with all": everything_random(cfg="insgen", batch_gpu=1, cond=False, settings=EVERYTHING),
    "msconD with all": everything_random(cfg="msconD", cond=False, settings={"scales": [1, 8], **EVERYTHING}),
    "projected": {"cfg": "projected", "batch": 2, "batch_gpu": 1},
    "fastgan with additions": {"cfg": "projected-fastgan", "batch": 2, "settings": {"lecam": 0.3, "apa": True}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


def check_continuation(data, folder, flags, num_iterations, stopped_in):
    batch = flags.get("batch", BATCH)
    options = tiny_options(data, num_iterations * batch, **flags)
    assert train_there(folder / "whole", options) == 0
    assert train_there(folder / "parts", options, stop_in_iteration=stopped_in) == 75
    assert states(folder / "parts")[-1].stem.endswith(f"{stopped_in * batch:09d}")
    assert train_there(folder / "parts", options) == 0
    assert_same_outcome(folder / "parts", folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("flags", QUICK_COMBINATIONS.values(), ids=QUICK_COMBINATIONS)
def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path, flags):
    check_continuation(data, tmp_path, flags, num_iterations=3, stopped_in=2)


@pytest.mark.slow
@pytest.mark.parametrize("flags", COMBINATIONS.values(), ids=COMBINATIONS)
def test_a_stopped_run_of_any_combination_goes_on_bit_by_bit(data, tmp_path, flags):
    check_continuation(data, tmp_path, flags, num_iterations=7, stopped_in=4)


@pytest.mark.slow
@pytest.mark.parametrize("flags", SLOW_COMBINATIONS.values(), ids=SLOW_COMBINATIONS)
def test_a_stopped_slow_run_goes_on_bit_by_bit(data, tmp_path, flags):
    check_continuation(data, tmp_path, flags, num_iterations=3, stopped_in=2)


def run_rank(run_dir, options, stop_in_iteration, world, init_method):
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method, timeout_sec=120)
    torch.set_num_threads(1)
    with signal_in_iteration(stop_in_iteration if world.rank == 1 else None):
        train_here(run_dir, options, rank=world.rank)


@pytest.mark.slow
@pytest.mark.parametrize("flags", IN_TWO_PROCESSES.values(), ids=IN_TWO_PROCESSES)
def test_a_stopped_run_of_two_processes_goes_on_bit_by_bit(data, tmp_path, flags):
    """Queues, momentum copies, heads, their optimizers and what each process keeps for itself."""
    batch = flags.get("batch", BATCH)
    num_iterations, stopped_in = (3, 2) if batch == 2 else (6, 3)
    options = tiny_options(data, num_iterations * batch, gpus=NUM_PROCESSES, **flags)
    for name, stop_in_iteration in (("whole", None), ("parts", stopped_in), ("parts", None)):
        launch(functools.partial(run_rank, tmp_path / name, options, stop_in_iteration), NUM_PROCESSES)
        if stop_in_iteration is not None:
            assert states(tmp_path / "parts")[-1].stem.endswith(f"{stopped_in * batch:09d}")
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")
