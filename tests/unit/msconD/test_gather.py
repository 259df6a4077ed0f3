"""Two gloo processes that gather give the loss and the gradient of one process with the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from msconD import contrastive
from msconD.contrastive import Gather
from msconD.gather import gather_rows
from msconD.settings import LossSettings
from torch_utils.distributed import init_world
from torch_utils.launch import World, launch

NUM_PROCESSES, NUM_IMAGES = 2, 3
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, "Gather | None"], torch.Tensor]


def instance_loss(
    proj1: torch.Tensor, proj2: torch.Tensor, distance: torch.Tensor, gather: Gather | None
) -> torch.Tensor:
    return contrastive.instance_nt_xent(proj1[:, :, 0, 0], proj2[:, :, 1, 0], 0.2, gather)[0]


def pixel_loss(proj1: torch.Tensor, proj2: torch.Tensor, distance: torch.Tensor, gather: Gather | None) -> torch.Tensor:
    return contrastive.pixel_info_nce(proj1, proj2, distance, LossSettings(con_neg_dist=1.0), gather)[0]


def loss_and_grad(loss_fn: Loss, images: slice, gather: Gather | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of some of the images of a fixed batch, and its gradient with respect to a shared weight."""
    generator = torch.Generator().manual_seed(0)
    num = NUM_PROCESSES * NUM_IMAGES
    proj = torch.randn(2, num, 5, 2, 2, generator=generator, dtype=torch.float64)[:, images]
    distance = torch.rand(num, 4, 4, generator=generator)[images]
    distance[:, 0] = 0  # every image has a positive in each direction, as every process counts its own
    weight = torch.eye(5, dtype=torch.float64).requires_grad_()
    proj1, proj2 = torch.einsum("ij,vnjhw->vnihw", weight, proj)
    loss = loss_fn(proj1, proj2, distance, gather)
    (grad,) = torch.autograd.grad(loss, weight)
    return loss.detach(), grad


def one_process(world: World, init_method: str) -> None:
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method)
    rank = world.rank
    rows = torch.arange(2) + 10 * rank
    assert gather_rows(rows).tolist() == [[0, 1, 10, 11], [10, 11, 0, 1]][rank]

    images = slice(rank * NUM_IMAGES, (rank + 1) * NUM_IMAGES)
    for loss_fn in (instance_loss, pixel_loss):
        found = loss_and_grad(loss_fn, images, gather_rows)
        for value, expected in zip(found, loss_and_grad(loss_fn, slice(None), None), strict=True):
            dist.all_reduce(value)  # what DistributedDataParallel does with gradients
            assert torch.allclose(value / NUM_PROCESSES, expected, rtol=0, atol=1e-12), loss_fn.__name__


@pytest.mark.slow
def test_gathered_loss_is_that_of_the_global_batch() -> None:
    launch(one_process, NUM_PROCESSES)
