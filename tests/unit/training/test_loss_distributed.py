"""Two gloo processes with DistributedDataParallel train like one process with the whole batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from torch_utils.distributed import init_world
from torch_utils.launch import World, launch
from training.loss import StyleGAN2Loss
from training.networks import Discriminator, Generator

NUM_PROCESSES, NUM_ROUNDS, BATCH_GPU = 2, 2, 2
BATCH = NUM_PROCESSES * NUM_ROUNDS * BATCH_GPU
INTERVALS = {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16, "Gboth": 1, "Dboth": 1}
LEARNING_RATE = 1e-4
TINY = {"channel_base": 64, "channel_max": 6}


def make_networks() -> dict[str, torch.nn.Module]:
    """Without what makes an image depend on its place in the batch: noise, and minibatch statistics over a group."""
    torch.manual_seed(0)
    G = Generator(8, 3, 8, 16, 3, {"num_layers": 2}, {**TINY, "use_noise": False})
    epilogue_kwargs = {"mbstd_group_size": 1}
    D = Discriminator(3, 16, 3, **TINY, mapping_kwargs={"num_layers": 2}, epilogue_kwargs=epilogue_kwargs)
    return {"G_mapping": G.mapping, "G_synthesis": G.synthesis, "D": D}


def make_loss(networks: dict[str, torch.nn.Module]) -> StyleGAN2Loss:
    """Path lengths of all images, measured against 0 and not against the running mean of a process."""
    settings = {"style_mixing_prob": 1, "pl_batch_shrink": 1, "pl_decay": 0}
    return StyleGAN2Loss(torch.device("cpu"), **networks, **settings)


def same_noise_for_all_images(x: torch.Tensor) -> torch.Tensor:
    return torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(1)).expand_as(x)


def train(
    networks: dict[str, torch.nn.Module], loss: StyleGAN2Loss, rounds: list[slice]
) -> list[dict[str, torch.Tensor]]:
    """Gradients of two iterations, by phase and then by parameter, over ``rounds`` of a fixed batch."""
    generator = torch.Generator().manual_seed(2)
    img, z = torch.randn(BATCH, 3, 16, 16, generator=generator), torch.randn(BATCH, 8, generator=generator)
    c = torch.eye(3)[torch.arange(BATCH) % 3]
    history = []
    for step, phase in enumerate(list(INTERVALS) * 2):
        for name, module in networks.items():
            module.requires_grad_(name[0] == phase[0]).zero_grad(set_to_none=True)
        trained = [(name, module) for name, module in networks.items() if name[0] == phase[0]]
        for part in rounds:
            torch.manual_seed(step)  # every process draws the cutoff of style mixing
            sync, gain = part is rounds[-1], INTERVALS[phase]
            with mock.patch.object(torch, "randn_like", same_noise_for_all_images):
                loss.accumulate_gradients(phase, img[part], c[part], z[part], c[part], sync, gain)
        parameters = {f"{name}.{key}": value for name, module in trained for key, value in module.named_parameters()}
        history.append({name: parameter.grad.clone() for name, parameter in parameters.items()})
        with torch.no_grad():
            torch._foreach_sub_(list(parameters.values()), list(history[-1].values()), alpha=LEARNING_RATE)
    return history


def one_process(folder: Path, world: World, init_method: str) -> None:
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method, timeout_sec=60)
    networks = make_networks()
    wrapped = {name: DistributedDataParallel(module, broadcast_buffers=False) for name, module in networks.items()}
    starts = [(k * NUM_PROCESSES + world.rank) * BATCH_GPU for k in range(NUM_ROUNDS)]
    history = train(networks, make_loss(wrapped), [slice(start, start + BATCH_GPU) for start in starts])
    torch.save(history, folder / f"{world.rank}.pt")


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    launch(partial(one_process, tmp_path), NUM_PROCESSES)
    networks = make_networks()
    global_batch_gpu = BATCH // NUM_ROUNDS
    rounds = [slice(k * global_batch_gpu, (k + 1) * global_batch_gpu) for k in range(NUM_ROUNDS)]
    expected = train(networks, make_loss(networks), rounds)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM_PROCESSES))
    for step, (alone, ours, theirs) in enumerate(zip(expected, first, second, strict=True)):
        assert alone.keys() == ours.keys()
        scale = max(grad.abs().max() for grad in alone.values())
        for name, grad in alone.items():
            assert torch.equal(ours[name], theirs[name]), (step, name)
            assert (ours[name] - grad).abs().max() <= 1e-6 * scale, (step, name)
