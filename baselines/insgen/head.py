"""The contrastive head of InsGen: a small network, its momentum copy, and a queue of the copy's outputs."""

from __future__ import annotations

import copy

import torch
from torch.nn.functional import normalize

from torch_utils import persistence


@persistence.persistent_class
class ContrastiveHead(torch.nn.Module):
    """Maps features to unit vectors and remembers those of earlier images.

    Args:
        in_features: Width of the features.
        queue_size: Number of vectors to remember.
        out_features: Width of the vectors.
    """

    queue: torch.Tensor
    position: torch.Tensor

    def __init__(self, in_features: int, queue_size: int, out_features: int = 128) -> None:
        super().__init__()
        self.online = torch.nn.Sequential(
            torch.nn.Linear(in_features, in_features),
            torch.nn.ReLU(),
            torch.nn.Linear(in_features, out_features),
        )
        self.momentum = copy.deepcopy(self.online)
        self.register_buffer("queue", normalize(torch.randn([queue_size, out_features])))
        self.register_buffer("position", torch.zeros([], dtype=torch.int64))

    @torch.no_grad()
    def keys(self, features: torch.Tensor) -> torch.Tensor:
        """Map features [N, in_features] to keys [N, out_features] by the momentum copy."""
        return normalize(self.momentum(features))

    @torch.no_grad()
    def move_momentum(self, decay: float) -> None:
        """Update the momentum copy as a moving average with the given decay."""
        torch._foreach_lerp_(list(self.momentum.parameters()), list(self.online.parameters()), 1 - decay)

    @torch.no_grad()
    def enqueue(self, keys: torch.Tensor) -> None:
        """Write keys [N, out_features] over the oldest ones; if there are more keys than slots, the last are kept."""
        size = len(self.queue)
        slots = (self.position + torch.arange(len(keys), device=keys.device)) % size
        self.queue[slots[-size:]] = keys[-size:]
        self.position.copy_((self.position + len(keys)) % size)


def info_nce(queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return -log(e^(q.k/t) / (e^(q.k/t) + sum_j e^(q.Q_j/t))) per row, [N] (arXiv 1911.05722, equation 1).

    Args:
        queries: Unit vectors q, [N, E].
        keys: Unit vectors k, [N, E]; row i belongs to query i.
        queue: Unit vectors Q, [K, E].
        temperature: t.
    """
    positives = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positives, queries @ queue.t()], dim=1) / temperature
    return logits.logsumexp(dim=1) - logits[:, 0]
