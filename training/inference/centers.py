"""Multi-modal truncation: w moves towards the nearest of several centers, not towards the mean.

Self-Distilled StyleGAN (arXiv:2202.12211, section 3.2): for varied images the mean of w shows nothing in particular, so
that truncation towards it loses both variety and quality. The centers are found by k-means in W; distances are
Euclidean.
"""

from __future__ import annotations

import torch

MAX_ITERATIONS = 100
_BATCH = 1 << 14
"""Samples whose distances from all centers are in memory at a time: 512 MiB for 4096 centers."""


def k_means(w: torch.Tensor, num_centers: int, seed: int) -> torch.Tensor:
    """Cluster samples by Lloyd's algorithm, from the start of k-means++ (Arthur and Vassilvitskii, 2007).

    Args:
        w: Samples ``[N, w_dim]``, N at least ``num_centers``.
        num_centers: Number of centers.
        seed: Seed of the random start.

    Returns:
        ``[num_centers, w_dim]``, float32, on the CPU, those of the largest clusters first.
    """
    w = w.cpu().double()
    centers = _spread_start(w, num_centers, torch.Generator().manual_seed(seed))
    nearest = _nearest(w, centers)
    for _ in range(MAX_ITERATIONS):
        sizes = torch.bincount(nearest, minlength=num_centers)[:, None]
        sums = torch.zeros_like(centers).index_add_(0, nearest, w)
        centers = torch.where(sizes > 0, sums / sizes, centers)  # an empty cluster keeps its center
        previous, nearest = nearest, _nearest(w, centers)
        if torch.equal(previous, nearest):
            break
    order = torch.bincount(nearest, minlength=num_centers).argsort(descending=True, stable=True)
    return centers[order].float()


def _nearest(w: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Return the number of the center ``[K, w_dim]`` that is nearest to each sample ``[N, w_dim]``: int64 [N]."""
    return torch.cat([torch.cdist(part, centers).argmin(dim=1) for part in w.split(_BATCH)])


def _spread_start(w: torch.Tensor, num_centers: int, rng: torch.Generator) -> torch.Tensor:
    """Choose samples one by one, with probabilities that grow with the squared distance from those chosen."""
    chosen = [int(torch.randint(len(w), [], generator=rng))]
    distances = (w - w[chosen[0]]).square().sum(dim=1)
    while len(chosen) < num_centers:
        weights = distances if distances.sum() > 0 else torch.ones_like(distances)
        chosen.append(int(torch.multinomial(weights, 1, generator=rng)))
        distances = torch.minimum(distances, (w - w[chosen[-1]]).square().sum(dim=1))
    return w[chosen].clone()


def truncate(ws: torch.Tensor, centers: torch.Tensor, psi: float) -> torch.Tensor:
    """Move ws ``[N, L, w_dim]`` of single w, the same in all layers, towards the nearest center.

    Args:
        ws: The latents, without truncation.
        centers: The centers, ``[K, w_dim]``.
        psi: 1 changes nothing, 0 gives the center.
    """
    centers = centers.to(ws)
    center = centers[torch.cdist(ws[:, 0], centers).argmin(dim=1)][:, None]
    return ws if psi == 1 else center + psi * (ws - center)
