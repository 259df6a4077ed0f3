"""Gather rows from all processes so that the gradient is that of the global batch.

Every process compares its own queries with the rows of all processes. Each row thus collects gradients on every
process, which are summed here. DistributedDataParallel averages over processes; with a loss averaged over its own
queries, the result is the gradient of a single process with the whole batch (docs/method.md, "Several processes").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

Gather = Callable[[torch.Tensor], torch.Tensor]
"""[N, ...] of this process -> [K, ...] of all processes, those of this process first, with gradients."""


def num_processes() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
    """Return the rows [N, ...] of all processes, [N * processes, ...]; those of this process come first."""
    gathered: torch.Tensor = _GatherRows.apply(rows.contiguous())
    return gathered


def gather_at(h: int, con_gather: str) -> Gather | None:
    """Choose how the embeddings at height h find negatives in other processes.

    Args:
        h: Height of the map.
        con_gather: ``all``: at every height, ``h1``: only the global embeddings, ``none``: never.

    Returns:
        `gather_rows`, or None to keep to the rows of this process.
    """
    is_wanted = con_gather == "all" or (con_gather == "h1" and h == 1)
    return gather_rows if num_processes() > 1 and is_wanted else None
