"""Each shim, where what it replaces is missing and where it is not."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from msconD import compat
from torch_utils import misc
from torch_utils.distributed import init_world
from torch_utils.launch import World, launch
from torch_utils.ops import grid_sample_gradfix


def test_only_needed_shims_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    table = [
        compat.Shim(lambda: False, lambda: applied.append("not needed"), "not told"),
        compat.Shim(lambda: True, lambda: applied.append("needed"), "told"),
    ]
    monkeypatch.setattr(compat, "SHIMS", table)
    assert compat.apply_shims() == ["told"]
    assert applied == ["needed"]


def test_distutils(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("distutils", "distutils.util"):
        monkeypatch.setitem(sys.modules, name, None)
    assert compat.lacks_distutils()
    compat.provide_distutils()
    assert not compat.lacks_distutils()
    assert importlib.import_module("distutils.util").strtobool("yes") == 1
    assert importlib.import_module("distutils").util.strtobool is compat.strtobool


def test_strtobool() -> None:
    assert [compat.strtobool(text) for text in ("Yes", "1", "on", "NO", "false", "0")] == [1, 1, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="must be yes or no, got 'maybe'"):
        compat.strtobool("maybe")


class OldSampler(torch.utils.data.Sampler[int]):
    def __init__(self, dataset: list[int]) -> None:
        super().__init__(dataset)  # type: ignore[call-arg]


def test_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data.Sampler, "__init__", object.__init__)
    with pytest.raises(TypeError):
        OldSampler([1])
    assert compat.sampler_takes_no_argument()
    compat.let_sampler_take_an_argument()
    assert not compat.sampler_takes_no_argument()
    OldSampler([1])


def sample(input: torch.Tensor, grid: torch.Tensor, **kwargs: object) -> torch.Tensor:
    return native_grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


native_grid_sample = torch.nn.functional.grid_sample


class SampleOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, grid):
        ctx.save_for_backward(input, grid)
        return sample(input, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        with torch.enable_grad():
            input, grid = (x.detach().requires_grad_() for x in ctx.saved_tensors)
            return torch.autograd.grad(sample(input, grid), (input, grid), grad_output)


def sample_once(input: torch.Tensor, grid: torch.Tensor, **kwargs: object) -> torch.Tensor:
    return SampleOnce.apply(input, grid)


def test_grid_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "grid_sample", sample_once)
    monkeypatch.setattr(grid_sample_gradfix, "grid_sample", sample_once)
    img = torch.randn([1, 1, 3, 3], dtype=torch.float64, requires_grad=True)
    grid = torch.rand([1, 2, 2, 2], dtype=torch.float64) * 2 - 1
    assert compat.grid_sample_has_no_second_derivative()
    compat.supply_grid_sample()
    assert torch.equal(grid_sample_gradfix.grid_sample(img, grid), sample(img, grid))
    assert torch.autograd.gradgradcheck(lambda img: grid_sample_gradfix.grid_sample(img, grid), img)


def test_a_second_derivative_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "grid_sample", lambda img, grid, **kwargs: img * grid.sum())
    assert not compat.grid_sample_has_no_second_derivative()


def test_sqrtm(monkeypatch: pytest.MonkeyPatch) -> None:
    square = np.array([[4.0, 0], [0, 9]])
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda A: np.sqrt(A) * 1.1)
    assert compat.sqrtm_takes_no_disp()
    compat.let_sqrtm_take_disp()
    assert not compat.sqrtm_takes_no_disp()
    root, error = scipy.linalg.sqrtm(square, disp=False)
    np.testing.assert_allclose(root, [[2.2, 0], [0, 3.3]])
    np.testing.assert_allclose(error, 0.21)
    np.testing.assert_array_equal(scipy.linalg.sqrtm(square), root)


@pytest.fixture
def init_of_ddp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the constructor afterwards."""
    monkeypatch.setattr(DistributedDataParallel, "__init__", DistributedDataParallel.__init__)


@pytest.mark.usefixtures("init_of_ddp")
@pytest.mark.parametrize("copies", [False, True])
def test_ddp(copies: bool) -> None:
    init = DistributedDataParallel.__init__
    DistributedDataParallel.__init__ = lambda self, module, broadcast_buffers: init(self, module, **sync(copies))
    assert compat.ddp_leaves_buffers_alone() != copies
    assert not dist.is_initialized()


def sync(copies: bool) -> dict[str, bool]:
    """Arguments of DistributedDataParallel that decide whether its constructor copies buffers."""
    return {} if copies else {"broadcast_buffers": False}


def one_process(world: World, init_method: str) -> None:
    compat.let_ddp_copy_buffers()
    assert not compat.ddp_leaves_buffers_alone()  # as in msconD.attach, before the script makes its group
    init_world(world.rank, world.world_size, torch.device("cpu"), init_method)
    torch.manual_seed(world.rank)
    module = torch.nn.Linear(3, 3)
    module.register_buffer("noise_const", torch.randn(4, 4))
    module.register_buffer("strided", torch.randn(2, 3).t())
    module.register_buffer("counts", torch.tensor([world.rank]))
    own = module.noise_const.clone()
    DistributedDataParallel(module, broadcast_buffers=False)
    misc.check_ddp_consistency(module)
    assert torch.equal(module.noise_const, own) == (world.rank == 0)


@pytest.mark.slow
def test_two_processes_have_equal_buffers_after_the_shim() -> None:
    launch(one_process, 2)
