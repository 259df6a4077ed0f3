"""Gather rows from all processes so that the gradient is that of the global batch.

Every process compares its own anchors with the rows of all. Each row then collects gradients on every process, which
are summed here; DistributedDataParallel averages over processes, and with a loss averaged over the own anchors that
makes the gradient of one process with the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        rank = dist.get_rank()
        return torch.cat(parts[rank:] + parts[:rank])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (grad,) = grads
        num_rows, rank = len(grad) // dist.get_world_size(), dist.get_rank()
        in_rank_order = grad.roll(rank * num_rows, dims=0)
        dist.all_reduce(in_rank_order)
        return in_rank_order[rank * num_rows : (rank + 1) * num_rows]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows [N, ...] of all processes, [N * processes, ...]; the own rows come first."""
    gathered: torch.Tensor = _GatherRows.apply(rows.contiguous())
    return gathered
