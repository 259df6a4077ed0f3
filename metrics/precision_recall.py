"""Precision and recall of generated features by nearest-neighbor manifolds.

"Improved Precision and Recall Metric for Assessing Generative Models" (arXiv:1904.06991, eq. 1 and 2): the manifold of
a set is the union of balls around its items, each with the distance to its k-th nearest neighbor as radius. Precision
is the fraction of generated items inside the manifold of the real ones; recall is the fraction of real items inside
that of the generated ones. The features are those of VGG16, as in the paper.
"""

from __future__ import annotations

import torch

from dnnlib.errors import UserError
from metrics import metric_utils
from metrics.detectors import VGG16


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the squared distances of all pairs: [N, D], [M, D] -> [N, M]."""
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return torch.addmm(squares, x, y.T, alpha=-2)


def squared_radii(features: torch.Tensor, nhood_size: int, block_size: int) -> torch.Tensor:
    """Return the squared distance [N] from each item [N, D] to its ``nhood_size``-th nearest neighbor."""
    num_nearest = nhood_size + 1  # every item is nearest to itself
    radii = []
    for rows in features.split(block_size):
        nearest = rows.new_empty(len(rows), 0)
        for columns in features.split(block_size):
            nearest = torch.cat([nearest, squared_distances(rows, columns)], dim=1)
            nearest = nearest.topk(min(num_nearest, nearest.shape[1]), dim=1, largest=False).values
        radii.append(nearest.amax(dim=1))
    return torch.cat(radii)


def precision_recall(
    real: torch.Tensor, gen: torch.Tensor, nhood_size: int = 3, block_size: int = 4096
) -> tuple[float, float]:
    """Return precision and recall, each in [0, 1].

    Features are rounded to float16 first, as in StyleGAN2-ADA (docs/compatibility.md).

    Args:
        real: Features [N, D] on the device that computes.
        gen: Features [M, D] on the same device.
        nhood_size: k, the number of neighbors that define the radius, not counting the item itself.
        block_size: Items per side of a block of distances; affects the memory, not the result.

    Raises:
        UserError: A set has fewer than ``nhood_size`` + 1 items.
    """
    if min(len(real), len(gen)) <= nhood_size:
        raise UserError(
            f"precision and recall need more than {nhood_size} images per set, got {len(real)} real and "
            f"{len(gen)} generated"
        )
    real, gen = real.half().float(), gen.half().float()
    # Distances are invariant to translation; near the origin less precision is lost to cancellation.
    center = real.mean(dim=0)
    real.sub_(center)
    gen.sub_(center)

    real_radii = squared_radii(real, nhood_size, block_size)
    gen_radii = squared_radii(gen, nhood_size, block_size)
    real_hit = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    gen_hit = torch.zeros(len(gen), dtype=torch.bool, device=gen.device)
    for i in range(0, len(gen), block_size):
        gen_block = slice(i, i + block_size)
        for j in range(0, len(real), block_size):
            real_block = slice(j, j + block_size)
            distances = squared_distances(gen[gen_block], real[real_block])
            gen_hit[gen_block] |= (distances <= real_radii[real_block]).any(dim=1)
            real_hit[real_block] |= (distances <= gen_radii[gen_block, None]).any(dim=0)
    return gen_hit.double().mean().item(), real_hit.double().mean().item()


def compute_pr(
    opts: metric_utils.MetricOptions,
    max_real: int | None,
    num_gen: int,
    nhood_size: int = 3,
    detector_url: str = VGG16,
) -> tuple[float, float]:
    """Return precision and recall of up to ``max_real`` real images (None: all) and ``num_gen`` generated ones.

    Every process must call this; the values are NaN except on rank 0.
    """
    real, gen = metric_utils.compute_feature_stats_of_both(opts, detector_url, max_real, num_gen)
    if opts.rank != 0:
        return float("nan"), float("nan")
    return precision_recall(real.get_all_torch().to(opts.device), gen.get_all_torch().to(opts.device), nhood_size)
