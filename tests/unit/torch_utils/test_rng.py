import random

import numpy as np
import pytest
import torch

from torch_utils.rng import GlobalGenerators, seed_everything
from training.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def draw():
    """Numbers from every global generator, an odd count of Gaussian ones: two are made at a time and one is kept."""
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.randn(3).tolist(),
        np.random.randint(2**31),
        torch.randn(5).tolist(),
        torch.rand([]).item(),
    ]


def test_a_restored_state_gives_the_same_numbers():
    draw()
    state = GlobalGenerators(CPU).state_dict()
    expected = draw()
    draw()
    GlobalGenerators(CPU).load_state_dict(state)
    assert draw() == expected


def test_a_file_keeps_the_state(tmp_path):
    draw()
    path = save_checkpoint(tmp_path, 0, {"rng": GlobalGenerators(CPU).state_dict()})
    expected = [draw() for _ in range(300)]  # longer than the state of the Mersenne twister
    GlobalGenerators(CPU).load_state_dict(load_checkpoint(path)["rng"])
    assert [draw() for _ in range(300)] == expected


def test_taking_the_state_draws_nothing():
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    GlobalGenerators(CPU).state_dict()
    assert draw() == expected


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32 * 8 + 7])
def test_a_seed_decides_everything(seed):
    seed_everything(seed)
    first = draw()
    assert draw() != first
    seed_everything(seed)
    assert draw() == first


def test_seeds_differ():
    seed_everything(3)
    first = draw()
    seed_everything(4)
    assert not [value for value, other in zip(draw(), first, strict=True) if value == other]


@pytest.mark.gpu
def test_the_generator_of_the_gpu_too():
    device = torch.device("cuda", 0)
    torch.randn(3, device=device)
    state = GlobalGenerators(device).state_dict()
    expected = torch.randn(3, device=device)
    GlobalGenerators(device).load_state_dict(state)
    assert torch.equal(torch.randn(3, device=device), expected)
