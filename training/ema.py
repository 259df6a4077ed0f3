"""Exponential moving average of the generator, which draws the images that people see (arXiv 1710.10196, section 2)."""

from __future__ import annotations

import torch


def ema_beta(batch_size: int, cur_nimg: int, ema_kimg: float, ema_rampup: float | None) -> float:
    """Return the weight of the old average after one batch: 0.5 per half-life (docs/compatibility.md).

    Args:
        batch_size: Images per batch.
        cur_nimg: Images seen so far.
        ema_kimg: Half-life in thousands of images.
        ema_rampup: The half-life is at most this fraction of ``cur_nimg``; None for no limit.
    """
    ema_nimg = ema_kimg * 1000
    if ema_rampup is not None:
        ema_nimg = min(ema_nimg, cur_nimg * ema_rampup)
    return 0.5 ** (batch_size / max(ema_nimg, 1e-8))


@torch.no_grad()
def update_ema(G_ema: torch.nn.Module, G: torch.nn.Module, beta: float) -> None:
    """Interpolate the parameters of ``G_ema`` towards those of ``G`` by 1 - ``beta``; buffers are copied."""
    torch._foreach_lerp_(list(G_ema.parameters()), list(G.parameters()), 1 - beta)
    buffers = list(G_ema.buffers())
    if buffers:  # _foreach_ operations do not take empty lists
        torch._foreach_copy_(buffers, list(G.buffers()))
