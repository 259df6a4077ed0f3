from __future__ import annotations

import pytest
import torch

from tests.helpers import assert_close
from training.ema import ema_beta, update_ema


@pytest.mark.parametrize(
    ("batch_size", "cur_nimg", "ema_kimg", "ema_rampup", "expected"),
    [
        (10_000, 0, 10, None, 0.5),  # one half-life in one batch
        (32, 10**6, 10, None, 0.5 ** (32 / 10_000)),
        (32, 10**9, 10, 0.05, 0.5 ** (32 / 10_000)),  # the ramp has ended
        (32, 1000, 10, 0.05, 0.5 ** (32 / 50)),  # in it: 5 % of 1000 images
        (32, 200_000, 10, 0.05, 0.5 ** (32 / 10_000)),  # its very end
        (32, 0, 10, 0.05, 0),
        (32, 10**6, 0, None, 0),
    ],
)
def test_half_life(batch_size: int, cur_nimg: int, ema_kimg: float, ema_rampup: float | None, expected: float) -> None:
    assert ema_beta(batch_size, cur_nimg, ema_kimg, ema_rampup) == pytest.approx(expected, rel=1e-12)


def make_module() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    for tensor in (*module.parameters(), module[1].running_mean):
        tensor.data.normal_()
    return module


def test_parameters_move_and_buffers_are_copied() -> None:
    G_ema, G = make_module(), make_module()
    G[1].num_batches_tracked += 7
    before = [parameter.detach().clone() for parameter in G_ema.parameters()]
    update_ema(G_ema, G, beta=0.9)
    for parameter, old, new in zip(G_ema.parameters(), before, G.parameters(), strict=True):
        assert_close(parameter, 0.9 * old + 0.1 * new)
        assert parameter.requires_grad
    for mine, theirs in zip(G_ema.buffers(), G.buffers(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


def test_beta_0_is_a_copy_and_beta_1_changes_nothing() -> None:
    G_ema, G = make_module(), make_module()
    before = [parameter.detach().clone() for parameter in G_ema.parameters()]
    update_ema(G_ema, G, beta=1)
    assert all(torch.equal(*pair) for pair in zip(G_ema.parameters(), before, strict=True))
    update_ema(G_ema, G, beta=0)
    assert all(torch.equal(*pair) for pair in zip(G_ema.parameters(), G.parameters(), strict=True))


def test_the_average_of_a_constant_approaches_it_by_half_lives() -> None:
    G_ema, G = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    G_ema.weight.data.fill_(0)
    G.weight.data.fill_(1)
    for step in range(100):  # three half-lives of 1000 images
        update_ema(G_ema, G, ema_beta(30, step * 30, ema_kimg=1, ema_rampup=None))
    assert G_ema.weight.item() == pytest.approx(1 - 0.5**3, rel=1e-4)
