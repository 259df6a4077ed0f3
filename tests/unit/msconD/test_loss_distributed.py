"""Two gloo processes with DistributedDataParallel train like one process with the whole batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from msconD import views
from msconD.discriminator import MsConDDiscriminator
from msconD.gather import gather_at, gather_rows
from msconD.loss import MsConDLoss
from torch_utils.distributed import init_world
from torch_utils.launch import World, launch
from training.networks import Generator

NUM_PROCESSES, NUM_ROUNDS, BATCH_PER_PROCESS = 2, 2, 2
TINY = {"channel_base": 512, "channel_max": 16}


def make_loss(gather: str, wrap: bool, con_views: str = "two") -> MsConDLoss:
    """Without random views and minibatch statistics, so that splitting the batch changes nothing."""
    torch.manual_seed(0)
    G = Generator(4, 0, 4, 32, 3, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=TINY)
    D = MsConDDiscriminator(0, 32, 3, proj_dim=8, epilogue_kwargs={"mbstd_num_channels": 0}, **TINY)
    trained = DistributedDataParallel(D) if wrap else D
    settings = {"con_geom": "none", "con_color_p": 0, "con_gather": gather, "con_views": con_views}
    return MsConDLoss(
        torch.device("cpu"), G.mapping, G.synthesis, trained, style_mixing_prob=0, con_fake_weight=0.5, **settings
    )


def run_phase(loss: MsConDLoss, phase: str, parts: list[slice]) -> dict[str, torch.Tensor]:
    """Gradients of a phase over rounds of ``parts`` of a fixed batch."""
    generator = torch.Generator().manual_seed(1)
    num = NUM_PROCESSES * NUM_ROUNDS * BATCH_PER_PROCESS
    img, z = torch.rand(num, 3, 32, 32, generator=generator), torch.randn(num, 4, generator=generator)
    c = torch.zeros(num, 0)
    D = loss.D.module if isinstance(loss.D, DistributedDataParallel) else loss.D
    D.zero_grad(set_to_none=True)
    for part in parts:
        sync = part is parts[-1]
        loss.accumulate_gradients(phase, img[part], c[part], z[part], c[part], sync, gain=16 if phase == "Dreg" else 1)
    return {name: parameter.grad for name, parameter in D.named_parameters()}


def descend(loss: MsConDLoss) -> None:
    with torch.no_grad():
        for parameter in loss.D.parameters():
            parameter.sub_(parameter.grad, alpha=0.0003)


def assert_trains_like_one_process(rank: int, con_views: str) -> None:
    alone, together = make_loss("none", False, con_views), make_loss("all", True, con_views)
    size = BATCH_PER_PROCESS
    global_parts = [slice(k * size * NUM_PROCESSES, (k + 1) * size * NUM_PROCESSES) for k in range(NUM_ROUNDS)]
    own_parts = [slice(part.start + rank * size, part.start + (rank + 1) * size) for part in global_parts]
    for step, phase in enumerate(["Dmain", "Dreg", "Dmain", "Dboth", "Dmain"]):
        if step == 4:
            for loss in (alone, together):
                loss.settings = replace(loss.settings, con_weight=0, con_fake_weight=0)
        expected, found = run_phase(alone, phase, global_parts), run_phase(together, phase, own_parts)
        for name, grad in expected.items():
            error = (found[name] - grad).abs().max()
            assert error <= 1e-4 * grad.abs().max() + 1e-7, f"{phase} {step} {name}: {error}"
        is_contrastive = phase != "Dreg" and step < 4
        assert all((grad.abs().max() > 1e-3) == is_contrastive for name, grad in found.items() if "proj" in name)
        descend(alone)
        descend(together)


def assert_gathers_where_asked() -> None:
    expected = {"h1": [True, False], "all": [True, True], "none": [False, False]}
    for gather, answers in expected.items():
        assert [gather_at(h, gather) is gather_rows for h in (1, 8)] == answers


def assert_survives_views_without_overlap(rank: int) -> None:
    loss = make_loss("all", wrap=True)
    corners = iter([-0.7, 0.7] * 8)

    def disjoint_on_rank_1(num: int, *_: object) -> torch.Tensor:
        x = next(corners) if rank == 1 else 0.0
        return torch.tensor([[0.3, 0, x], [0, 0.3, 0]]).repeat(num, 1, 1)

    views.sample_thetas = disjoint_on_rank_1
    loss.views.settings = replace(loss.settings, con_geom="crop")
    for name, grad in run_phase(loss, "Dmain", [slice(rank * 2, rank * 2 + 2)]).items():
        assert grad.isfinite().all(), name
        mean = grad.clone()
        dist.all_reduce(mean)
        assert torch.equal(mean / NUM_PROCESSES, grad), name


def one_process(world: World, init_method: str) -> None:
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method)
    assert_gathers_where_asked()
    for con_views in ("two", "real"):
        assert_trains_like_one_process(world.rank, con_views)
    assert_survives_views_without_overlap(world.rank)


@pytest.mark.slow
def test_two_processes() -> None:
    launch(one_process, NUM_PROCESSES)
