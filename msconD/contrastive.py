"""Contrastive losses between two views of the same images.

On a feature map each cell of one view is a query and the cells of the other view are its keys, positive where both show
the same place: the pixel contrast of Xie et al., "Propagate Yourself" (arXiv:2011.10043, equations 1-2), with the cells
of the other images as further negatives. The global embedding has NT-Xent of Chen et al., "A Simple Framework for
Contrastive Learning of Visual Representations" (arXiv:2002.05709, equation 1).

Logits are cosines over temperature, in float32 or better. They are at most 1 / temperature in magnitude, so feature
maps exponentiate them without subtracting a maximum, once for both directions if every cell is a query and all keys
are of this process. Excluded logits are -1e4, never minus infinity, which would give NaN gradients in a row without
entries even where that row is discarded later.

Shapes never depend on the values of tensors, so that the host never waits for a GPU: queries without a positive are
kept with weight 0.

Shapes: N images, P cells of a map in row-major order, Q queries per image (Q <= P), E embedding width, K images that
keys come from (N, or more with other processes), h height of a map.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from msconD import views
from msconD.gather import Gather, gather_at
from msconD.settings import LossSettings

EXCLUDED = -1e4
"""Logit of a key that is neither positive nor negative; its exponential is 0."""

MAX_UNIFORMITY_ROWS = 512
"""The uniformity statistic compares at most this many embeddings."""

Embeddings = dict[int, torch.Tensor]
"""Embeddings of one view by height: [N, E] at height 1, [N, E, h, h] above."""

Stats = dict[str, torch.Tensor]
"""Values to report by name; an empty tensor where the batch is too small to define the value."""


class PixelLogits(NamedTuple):
    """Logits between the queries of one view and the cells of the other, its keys.

    Attributes:
        same_image: Logits of the keys in the query's own image, [N, Q, P].
        exp_all: Exponentiated logits of the keys in K images, this process's N first, [N, Q, K, P]; None if negatives
            come from the query's own image only.
        positive: Which keys in the query's own image are positives, bool [N, Q, P].
    """

    same_image: torch.Tensor
    exp_all: torch.Tensor | None
    positive: torch.Tensor

    def exp_keys(self) -> torch.Tensor:
        """Return the exponentiated logits of all keys of each query, [N, Q, P or K * P]."""
        return self.same_image.exp() if self.exp_all is None else self.exp_all.flatten(2)

    def transposed(self) -> PixelLogits:
        """Return the logits of the other direction, where every cell is a query and all keys are of this process."""
        exp_all = None if self.exp_all is None else self.exp_all.permute(2, 3, 0, 1)
        return PixelLogits(self.same_image.mT, exp_all, self.positive.mT)


def multiscale_losses(
    proj1: Embeddings, proj2: Embeddings, theta1: torch.Tensor, theta2: torch.Tensor, settings: LossSettings
) -> tuple[dict[int, torch.Tensor], Stats]:
    """Contrast two views of each image at every scale.

    Args:
        proj1: Embeddings of the first views.
        proj2: Embeddings of the second views.
        theta1: Geometry of the first views, [N, 2, 3], see `msconD.views`.
        theta2: Geometry of the second views, [N, 2, 3].
        settings: Settings of the loss, of which the contrastive ones are used.

    Returns:
        Losses by height, scalars, and statistics by name and height.
    """
    losses: dict[int, torch.Tensor] = {}
    stats: Stats = {}
    for h in proj1:
        gather = gather_at(h, settings.con_gather)
        if h == 1:
            losses[h], found = instance_nt_xent(proj1[h], proj2[h], settings.con_temp, gather)
        else:
            distance = views.cell_distances(theta1, theta2, h)
            losses[h], found = pixel_info_nce(proj1[h], proj2[h], distance, settings, gather)
        stats |= {f"{name}_h{h}": value for name, value in found.items()}
    return losses, stats


def pixel_info_nce(
    proj1: torch.Tensor,
    proj2: torch.Tensor,
    distance: torch.Tensor,
    settings: LossSettings,
    gather: Gather | None = None,
) -> tuple[torch.Tensor, Stats]:
    """Contrast the cells of two views in both directions.

    Args:
        proj1: Embeddings of the first views, float [N, E, h, h].
        proj2: Embeddings of the second views, float [N, E, h, h].
        distance: Between the cells of an image's two views, [N, P, P], see `msconD.views.cell_distances`.
        settings: Settings of the loss, of which the contrastive ones are used.
        gather: Appends the keys of other processes; None uses only those of this process.

    Returns:
        The loss, a scalar that is 0 (with gradients 0) where no two views overlap, and statistics of the first
        direction.
    """
    z1, z2 = unit(proj1).flatten(2).mT, unit(proj2).flatten(2).mT  # [N, P, E]
    logits1 = pixel_logits(z1, z2, distance, settings, gather)
    if logits1.same_image.shape[1] == z1.shape[1] and gather is None:
        logits2 = logits1.transposed()  # every cell is a query
    else:
        logits2 = pixel_logits(z2, z1, distance.mT, settings, gather)
    losses1 = info_nce(logits1, settings.con_multi_pos)  # [N, Q]
    losses2 = info_nce(logits2, settings.con_multi_pos)
    valid1, valid2 = logits1.positive.any(2), logits2.positive.any(2)
    loss = (image_mean(losses1, valid1) + image_mean(losses2, valid2)) / 2

    stats = query_means(query_stats(logits1, losses1, settings), valid1)
    is_valid = has_positive(distance, settings)  # [N, P]
    stats |= {"valid_frac": is_valid.float().flatten(), "empty_imgs": (~is_valid.any(1)).float()}
    return loss, stats | embedding_stats(proj1, z1.flatten(0, 1))


def has_positive(distance: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """Return which cells of the first views have a positive in the second, bool [N, P], by the distances [N, P, P]."""
    return distance.amin(2) < settings.con_pos_dist


def pixel_logits(
    queries: torch.Tensor, keys: torch.Tensor, distance: torch.Tensor, settings: LossSettings, gather: Gather | None
) -> PixelLogits:
    """Compute the logits of the cells of one view, or of a sample of them, with the cells of the other view.

    Args:
        queries: Unit vectors of the first view, [N, P, E].
        keys: Unit vectors of the other view, [N, P, E].
        distance: Between them, [N, P, P].
        settings: Settings of the loss, of which the contrastive ones are used.
        gather: Appends the keys of other processes.
    """
    num_queries = max(settings.con_max_anchors // len(queries), 1)
    if num_queries < queries.shape[1]:
        index = sample_queries(has_positive(distance, settings), num_queries)[:, :, None]  # [N, Q, 1]
        queries = torch.take_along_dim(queries, index, dim=1)  # [N, Q, E]
        distance = torch.take_along_dim(distance, index, dim=1)  # [N, Q, P]
    positive = distance < settings.con_pos_dist
    excluded = (distance < settings.con_neg_dist) & ~positive if settings.con_neg_dist > settings.con_pos_dist else None
    same_image = similarity(queries, keys, settings.con_temp)  # [N, Q, P]
    exp_all = None
    if settings.con_neg == "batch":
        all_keys = keys if gather is None else gather(keys)  # [K, P, E]
        logits = similarity(queries.flatten(0, 1), all_keys.flatten(0, 1), settings.con_temp)  # [N * Q, K * P]
        shape = (*queries.shape[:2], *all_keys.shape[:2])
        if excluded is not None:
            logits.view(shape).diagonal(dim1=0, dim2=2).masked_fill_(excluded.permute(1, 2, 0), EXCLUDED)
        exp_all = logits.exp_().view(shape)
    if excluded is not None:
        same_image = same_image.masked_fill(excluded, EXCLUDED)
    return PixelLogits(same_image, exp_all, positive)


def info_nce(logits: PixelLogits, multi_pos: str) -> torch.Tensor:
    """Compute -log(sum of exp over the positives / sum of exp over all keys) per query.

    Args:
        logits: Those of the queries.
        multi_pos: ``sum`` adds up the positives as above (PixContrast), ``mean`` averages their losses (Khosla et al.,
            "Supervised Contrastive Learning", arXiv:2004.11362, equation 2).

    Returns:
        [N, Q]; finite but meaningless for queries without a positive, even where no key counts.
    """
    same_image, positive = logits.same_image, logits.positive
    smallest = torch.finfo(same_image.dtype).tiny
    if multi_pos == "mean":
        attraction = (same_image * positive).sum(2) / positive.sum(2).clamp(min=1)  # [N, Q]
    else:
        positive_sum = (same_image.exp() * positive).sum(2)
        attraction = positive_sum.clamp(min=smallest).log()
    return logits.exp_keys().sum(2).clamp(min=smallest).log() - attraction


def image_mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Average [N, Q] over the valid queries of each image, then over the images that have any; 0 if none has."""
    per_image = (values * valid).sum(1) / valid.sum(1).clamp(min=1)  # [N]
    return per_image.sum() / valid.any(1).sum().clamp(min=1)


def sample_queries(valid: torch.Tensor, num: int) -> torch.Tensor:
    """Draw ``num`` queries of each image without replacement, those with a positive first.

    Args:
        valid: Which cells have a positive, bool [N, P].
        num: Q.

    Returns:
        int64 [N, Q]. The valid ones among them are a uniform sample of all valid ones, so their mean is unbiased.
    """
    return (torch.rand(valid.shape, device=valid.device) + valid).topk(num, dim=1).indices


def unit(proj: torch.Tensor) -> torch.Tensor:
    """Normalize embeddings [N, E, ...] of any float type over E, in float32 or better."""
    return F.normalize(proj.to(torch.promote_types(proj.dtype, torch.float32)), dim=1, eps=1e-8)


def similarity(queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compare unit vectors: [..., Q, E] with [..., M, E] gives logits [..., Q, M]."""
    return (queries / temperature) @ keys.mT


def instance_nt_xent(
    proj1: torch.Tensor, proj2: torch.Tensor, temperature: float, gather: Gather | None = None
) -> tuple[torch.Tensor, Stats]:
    """Contrast images: the key of each embedding is the other view of its image, among all embeddings but itself.

    Args:
        proj1: Embeddings of the first views, float [N, E].
        proj2: Embeddings of the second views, float [N, E].
        temperature: Divides the cosines.
        gather: Appends the embeddings of other processes; None uses only those of this process.

    Returns:
        The loss, averaged over the 2 N embeddings of this process, and statistics.
    """
    pairs = torch.stack([unit(proj1), unit(proj2)], dim=1)  # [N, 2, E]
    queries = pairs.flatten(0, 1)  # [2 * N, E]
    keys = queries if gather is None else gather(pairs).flatten(0, 1)  # [2 * K, E]
    columns = torch.arange(len(keys), device=keys.device)  # [2 * K]
    itself = columns[: len(queries)]  # [2 * N]
    partner = itself ^ 1  # views of an image are neighbors

    is_itself = columns == itself[:, None]  # [2 * N, 2 * K]
    logits = similarity(queries, keys, temperature).masked_fill(is_itself, EXCLUDED)
    losses = F.cross_entropy(logits, partner, reduction="none")  # [2 * N]

    with torch.no_grad():
        cosine = logits * temperature
        is_negative = ~is_itself & (columns != partner[:, None])
        negative_mean = (cosine * is_negative).sum(1) / max(len(keys) - 2, 1)  # [2 * N]
        stats = {
            "loss": losses.detach(),
            "excess": losses.detach() - math.log(len(keys) - 1),
            "top1": (logits.argmax(1) == partner).float(),
            "pos_sim": cosine.gather(1, partner[:, None]),
            "neg_sim": negative_mean if len(keys) > 2 else negative_mean[:0],
        }
    return losses.mean(), stats | embedding_stats(proj1, pairs[:, 0])


@torch.no_grad()
def query_stats(logits: PixelLogits, losses: torch.Tensor, settings: LossSettings) -> Stats:
    """Describe the queries by their logits and their ``losses`` [N, Q].

    Returns:
        Values by name, [N, Q]; those of queries without a positive have no meaning. ``excess`` is the loss minus that
        of guessing, all logits equal.
    """
    same_image, exp_all, positive = logits
    keys = logits.exp_keys()  # [N, Q, M]
    num_images, _, num_cells = same_image.shape
    negative = ~positive & (same_image != EXCLUDED)
    num_pos, num_neg = positive.sum(2), negative.sum(2)  # [N, Q]

    best = keys.argmax(2, keepdim=True)  # [N, Q, 1]
    if exp_all is not None:
        best = best - torch.arange(num_images, device=best.device)[:, None, None] * num_cells
    is_same_image = (best >= 0) & (best < num_cells)
    is_hit = is_same_image & positive.gather(2, best.clamp(0, num_cells - 1))

    num_keys = keys.shape[2] - num_cells + num_pos + num_neg
    summed = num_pos.clamp(min=1) if settings.con_multi_pos == "sum" else 1
    return {
        "loss": losses,
        "excess": losses - (num_keys / summed).log(),
        "top1": is_hit[:, :, 0].float(),
        "pos_sim": (same_image * positive).sum(2) / num_pos.clamp(min=1) * settings.con_temp,
        "neg_sim": (same_image * negative).sum(2) / num_neg.clamp(min=1) * settings.con_temp,
        "num_pos": num_pos.float(),
    }


@torch.no_grad()
def query_means(values: Stats, valid: torch.Tensor) -> Stats:
    """Average the values of `query_stats` over the valid queries, bool [N, Q]: scalars, 0 if none is valid."""
    sums = torch.where(valid, torch.stack(list(values.values())), 0).sum([1, 2])
    return dict(zip(values, sums / valid.sum().clamp(min=1), strict=True))


@torch.no_grad()
def embedding_stats(proj: torch.Tensor, z: torch.Tensor) -> Stats:
    """Measure the length of raw embeddings [N, E, ...] and how evenly unit vectors [rows, E] spread.

    Uniformity is log mean exp(-2 |zi - zj|^2) over pairs (Wang and Isola, arXiv:2005.10242): 0 for a collapsed
    embedding, -4 for orthogonal vectors.
    """
    rows = z[:: math.ceil(len(z) / MAX_UNIFORMITY_ROWS)]
    closeness = (4 * (rows @ rows.mT) - 4).exp()  # [rows, rows]
    num_pairs = len(rows) * (len(rows) - 1)
    uniformity = ((closeness.sum() - closeness.trace()) / num_pairs).log() if num_pairs else rows.new_empty([0])
    return {"norm": proj.float().norm(dim=1).flatten(), "uniformity": uniformity}
