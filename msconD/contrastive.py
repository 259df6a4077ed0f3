"""Contrastive losses between two views of the same images at one scale.

A local map: each cell of one view is an anchor that should recognise the cells of the other view that saw the same
place, among all cells of that view. This is the pixel contrast of Xie et al., "Propagate Yourself" (arXiv:2011.10043,
equations 1-2), with the cells of the other images as further negatives. A global vector: NT-Xent of Chen et al., "A
Simple Framework for Contrastive Learning of Visual Representations" (arXiv:2002.05709, equation 1).

Logits are cosines over temperature, in float32 or better. They are at most 1 / temperature in magnitude, so local maps
exponentiate them as they are, once for the rows and columns of both directions. Nothing is ever minus infinity: that
would turn the gradients of a row without entries into NaN even where the row is discarded later.

Shapes: N images, P cells of a map in row-major order, A anchors per image (A <= P), E embedding width, h height of the
map, K images that keys come from (N, or more with other processes), M candidates of an anchor (P or K * P).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from msconD.settings import LossSettings

MAX_UNIFORMITY_ROWS = 512
"""The uniformity statistic compares at most this many embeddings."""

Gather = Callable[[torch.Tensor], torch.Tensor]
"""[N, ...] of this process -> [K, ...] of all processes, the own rows first, with gradients."""

Stats = dict[str, torch.Tensor]
"""Values to report by name; a value that a batch does not define is an empty tensor."""


class Direction(NamedTuple):
    """What the anchors of one view see of the other.

    Attributes:
        own: Logits with the cells of the same image, [N, A, P].
        odds: Exponentiated logits with the cells of K images, the own N first, [N, A, K, P]; None if only the own image
            counts.
        positive: Which of ``own`` are the same place, bool [N, A, P].
        ignored: Which of ``own`` are neither positive nor negative, bool [N, A, P]; None for none.
    """

    own: torch.Tensor
    odds: torch.Tensor | None
    positive: torch.Tensor
    ignored: torch.Tensor | None

    def reverse(self) -> Direction:
        """Look from the other view: the same logits, transposed. Needs A = P and K = N."""
        odds = None if self.odds is None else self.odds.permute(2, 3, 0, 1)
        ignored = None if self.ignored is None else self.ignored.mT
        return Direction(self.own.mT, odds, self.positive.mT, ignored)

    def candidates(self) -> torch.Tensor:
        """Return the exponentiated logits of positives and negatives, [N, A, M]; 0 for what is ignored."""
        if self.odds is None:
            return self.own.exp() if self.ignored is None else self.own.exp().masked_fill(self.ignored, 0)
        if self.ignored is None:
            return self.odds.flatten(2)
        block = self.odds.diagonal(dim1=0, dim2=2)  # [A, P, N]
        block = block.masked_fill(self.ignored.permute(1, 2, 0), 0)
        return self.odds.diagonal_scatter(block, dim1=0, dim2=2).flatten(2)


def unit(proj: torch.Tensor) -> torch.Tensor:
    """Normalise a projection [N, E, ...] of any float type over E, in float32 or better."""
    return F.normalize(proj.to(torch.promote_types(proj.dtype, torch.float32)), dim=1, eps=1e-8)


def similarity(anchors: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compare unit vectors: [..., A, E] with [..., M, E] gives logits [..., A, M]."""
    with torch.autocast(anchors.device.type, enabled=False):
        return (anchors / temperature) @ keys.mT


def place_masks(distance: torch.Tensor, pos_dist: float, neg_dist: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tell which cells are positives (nearer than ``pos_dist``) and which are left out (from there to ``neg_dist``)."""
    positive = distance < pos_dist
    ignored = (distance < neg_dist) & ~positive if neg_dist > pos_dist else None
    return positive, ignored


def choose_anchors(valid: torch.Tensor, num: int) -> torch.Tensor:
    """Draw ``num`` anchors of each image without replacement, those with a positive first.

    Args:
        valid: Which cells have a positive, bool [N, P].
        num: A.

    Returns:
        int64 [N, A]. The valid ones among them are a uniform sample of all valid ones, so that their mean is unbiased.
    """
    return (torch.rand(valid.shape, device=valid.device) + valid).topk(num, dim=1).indices


def look(
    anchors: torch.Tensor, keys: torch.Tensor, distance: torch.Tensor, settings: LossSettings, gather: Gather | None
) -> Direction:
    """Compare the cells of one view [N, P, E], or a sample of them, with the cells of the other view [N, P, E]."""
    num_anchors = max(settings.con_max_anchors // len(anchors), 1)
    if num_anchors < anchors.shape[1]:
        index = choose_anchors((distance < settings.con_pos_dist).any(2), num_anchors)[:, :, None]  # [N, A, 1]
        anchors = torch.take_along_dim(anchors, index, dim=1)  # [N, A, E]
        distance = torch.take_along_dim(distance, index, dim=1)  # [N, A, P]

    positive, ignored = place_masks(distance, settings.con_pos_dist, settings.con_neg_dist)
    own = similarity(anchors, keys, settings.con_temp)  # [N, A, P]
    if settings.con_neg == "image":
        return Direction(own, None, positive, ignored)
    all_keys = keys if gather is None else gather(keys)  # [K, P, E]
    odds = similarity(anchors.flatten(0, 1), all_keys.flatten(0, 1), settings.con_temp).exp_()  # [N * A, K * P]
    odds = odds.unflatten(1, all_keys.shape[:2]).unflatten(0, anchors.shape[:2])  # [N, A, K, P]
    return Direction(own, odds, positive, ignored)


def anchor_loss(way: Direction, multi_pos: str) -> torch.Tensor:
    """Compute -log(sum of exp over the positives / sum of exp over the candidates) per anchor.

    Args:
        way: The logits.
        multi_pos: ``sum`` adds up the positives as written above (PixContrast), ``mean`` averages their losses
            (Khosla et al., "Supervised Contrastive Learning", arXiv:2004.11362, equation 2).

    Returns:
        [N, A]; of no meaning, but finite, for anchors without a positive.
    """
    if multi_pos == "mean":
        attraction = (way.own * way.positive).sum(2) / way.positive.sum(2).clamp(min=1)  # [N, A]
    else:
        odds = way.own.exp() * way.positive  # [N, A, P]
        attraction = odds.sum(2).clamp(min=torch.finfo(odds.dtype).tiny).log()  # [N, A]
    return way.candidates().sum(2).log() - attraction


def image_mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Average [N, A] over the valid anchors of each image, then over the images that have any; 0 if none has."""
    per_image = (values * valid).sum(1) / valid.sum(1).clamp(min=1)  # [N]
    return per_image.sum() / valid.any(1).sum().clamp(min=1)


def pixel_info_nce(
    proj1: torch.Tensor,
    proj2: torch.Tensor,
    distance: torch.Tensor,
    settings: LossSettings,
    gather: Gather | None = None,
) -> tuple[torch.Tensor, Stats]:
    """Contrast the cells of two views in both directions.

    Args:
        proj1: Projections of the first views, float [N, E, h, h].
        proj2: Projections of the second views, float [N, E, h, h].
        distance: Between the cells of an image's two views, [N, P, P], see `msconD.views.cell_distances`.
        settings: Its contrastive ones are used.
        gather: Brings keys of other processes; None keeps to the own ones.

    Returns:
        The loss, a scalar that is 0 (with gradients 0) where no two views overlap, and statistics of the first
        direction.
    """
    z1, z2 = unit(proj1).flatten(2).mT, unit(proj2).flatten(2).mT  # [N, P, E]
    there = look(z1, z2, distance, settings, gather)
    # With every cell an anchor and no foreign keys, one product serves both directions.
    is_symmetric = there.own.shape[1] == z1.shape[1] and gather is None
    back = there.reverse() if is_symmetric else look(z2, z1, distance.mT, settings, gather)

    losses, losses_back = (anchor_loss(way, settings.con_multi_pos) for way in (there, back))  # [N, A]
    loss = (image_mean(losses, there.positive.any(2)) + image_mean(losses_back, back.positive.any(2))) / 2

    stats = direction_stats(there, losses, settings.con_temp) | embedding_stats(proj1, z1.flatten(0, 1))
    has_place = (distance < settings.con_pos_dist).any(2)  # [N, P]
    stats["valid_frac"] = has_place.float().flatten()
    stats["empty_imgs"] = (~has_place.any(1)).float()
    return loss, stats


def instance_nt_xent(
    proj1: torch.Tensor, proj2: torch.Tensor, temperature: float, gather: Gather | None = None
) -> tuple[torch.Tensor, Stats]:
    """Contrast images: each vector should recognise the other view of its image among all vectors but itself.

    Args:
        proj1: Projections of the first views, float [N, E].
        proj2: Projections of the second views, float [N, E].
        temperature: Divides the cosines.
        gather: Brings vectors of other processes; None keeps to the own ones.

    Returns:
        The loss, averaged over the 2 N vectors of this process, and statistics.
    """
    pairs = torch.stack([unit(proj1), unit(proj2)], dim=1)  # [N, 2, E]
    anchors = pairs.flatten(0, 1)  # [2 * N, E]
    keys = anchors if gather is None else gather(pairs).flatten(0, 1)  # [2 * K, E]
    itself = torch.arange(len(anchors), device=anchors.device)  # [2 * N]
    partner = itself ^ 1  # views of an image sit side by side

    is_itself = F.one_hot(itself, len(keys)).bool()  # [2 * N, 2 * K]
    logits = similarity(anchors, keys, temperature).masked_fill(is_itself, -1e4)
    losses = F.cross_entropy(logits, partner, reduction="none")  # [2 * N]

    with torch.no_grad():
        cosine = logits * temperature
        is_negative = ~is_itself & ~F.one_hot(partner, len(keys)).bool()
        stats = {
            "loss": losses.detach(),
            "excess": losses.detach() - math.log(len(keys) - 1),
            "top1": (logits.argmax(1) == partner).float(),
            "pos_sim": cosine.gather(1, partner[:, None]),
            "neg_sim": cosine[is_negative],
        }
    return losses.mean(), stats | embedding_stats(proj1, pairs[:, 0])


@torch.no_grad()
def direction_stats(way: Direction, losses: torch.Tensor, temperature: float) -> Stats:
    """Describe the anchors of one direction that have a positive; ``losses`` [N, A] is what `anchor_loss` gave them."""
    candidates = way.candidates()  # [N, A, M]
    num_images, _, num_cells = way.own.shape
    num_pos = way.positive.sum(2)  # [N, A]
    negative = ~way.positive if way.ignored is None else ~(way.positive | way.ignored)
    num_neg = negative.sum(2)

    best = candidates.argmax(2, keepdim=True)  # [N, A, 1]
    if way.odds is not None:
        best = best - torch.arange(num_images, device=best.device)[:, None, None] * num_cells
    is_own = (best >= 0) & (best < num_cells)
    is_hit = is_own & way.positive.gather(2, best.clamp(0, num_cells - 1))

    num_candidates = candidates.shape[2] - num_cells + num_pos + num_neg
    values = {
        "loss": losses,
        "excess": losses - (num_candidates / num_pos).log(),
        "top1": is_hit[:, :, 0].float(),
        "pos_sim": (way.own * way.positive).sum(2) / num_pos * temperature,
        "neg_sim": (way.own * negative).sum(2) / num_neg.clamp(min=1) * temperature,
        "num_pos": num_pos.float(),
    }
    valid = (num_pos > 0).flatten().nonzero()[:, 0]
    return {name: value.flatten()[valid] for name, value in values.items()}


@torch.no_grad()
def embedding_stats(proj: torch.Tensor, z: torch.Tensor) -> Stats:
    """Measure the length of raw projections [N, E, ...] and how evenly unit vectors [rows, E] spread.

    Uniformity is log mean exp(-2 |zi - zj|^2) over pairs (Wang and Isola, arXiv:2005.10242): 0 for a collapsed
    embedding, -4 for vectors at right angles.
    """
    rows = z[:: math.ceil(len(z) / MAX_UNIFORMITY_ROWS)]
    closeness = (4 * (rows @ rows.mT) - 4).exp()  # [rows, rows]
    num_pairs = len(rows) * (len(rows) - 1)
    uniformity = ((closeness.sum() - closeness.trace()) / num_pairs).log() if num_pairs else rows.new_empty([0])
    return {"norm": proj.float().norm(dim=1).flatten(), "uniformity": uniformity}
