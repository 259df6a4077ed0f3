"""Directions in W along which images of a generator change, found without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from dnnlib.errors import UserError
from training.inference.sampling import check_layers


def sefa(G: Any, layers: Sequence[int]) -> torch.Tensor:
    """Return the directions that change the styles of some layers most: SeFa (arXiv:2007.06600, section 3.2).

    The styles are affine in w. With their weights A, of all layers below each other, the directions of unit length with
    the largest norm of A n are the eigenvectors of A^T A, which are the right singular vectors of A.

    Args:
        G: A generator of this project or of StyleGAN2-ADA.
        layers: The layers to use, of the ``num_ws``.

    Returns:
        Unit vectors ``[min(w_dim, rows of A), w_dim]``, float64, on the CPU, the strongest first.

    Raises:
        UserError: The generator has no styles.
    """
    weights = style_weights(G)
    A = torch.cat([weight for layer in layers for weight in weights[layer]])
    return _with_signs(torch.linalg.svd(A, full_matrices=False).Vh)


def style_weights(G: Any) -> list[list[torch.Tensor]]:
    """Return the weights ``[channels, w_dim]`` of the styles of each of the ``num_ws`` layers, float64, on the CPU.

    The style of a block's torgb is that of the first convolution of the next block.

    Raises:
        UserError: The generator has no styles.
    """
    weights: list[list[torch.Tensor]] = [[] for _ in range(G.num_ws)]
    for layer, module in _styled_layers(G.synthesis):
        gain = module.affine.weight_gain * getattr(module, "weight_gain", 1)
        weights[layer].append(module.affine.weight.detach().cpu().double() * gain)
    return weights


def _styled_layers(synthesis: Any) -> Iterator[tuple[int, Any]]:
    names = [f"b{res}" for res in getattr(synthesis, "block_resolutions", [])]
    if not names or not all(hasattr(synthesis, name) for name in names):
        raise UserError("SeFa needs a generator with styles, such as StyleGAN2's; use --method=ganspace")
    layer = 0
    for block in (getattr(synthesis, name) for name in names):
        for name in ("conv0", "conv1"):
            if hasattr(block, name):
                yield layer, getattr(block, name)
                layer += 1
        if hasattr(block, "torgb"):
            yield layer, block.torgb


def ganspace(w: torch.Tensor) -> torch.Tensor:
    """Return the principal components of w: GANSpace (arXiv:2004.02546, section 2.1).

    Args:
        w: Samples ``[N, w_dim]``, N at least 2.

    Returns:
        Unit vectors ``[w_dim, w_dim]``, float64, on the CPU, those of the largest variance first.
    """
    centered = w.cpu().double() - w.cpu().double().mean(dim=0)
    _variances, vectors = torch.linalg.eigh(centered.T @ centered)
    return _with_signs(vectors.T.flip(0))


def deviations(w: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of w ``[N, w_dim]`` along each of K unit vectors ``[K, w_dim]``: float64 [K]."""
    return (w.cpu().double() @ directions.T).std(dim=0, correction=0)


def move(ws: torch.Tensor, steps: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
    """Add ``steps`` [w_dim], or one for each, to ws ``[N, L, w_dim]`` in some layers."""
    moved = ws.clone()
    moved[:, list(layers)] += steps.to(ws).reshape(-1, 1, ws.shape[2])
    return moved


def _with_signs(vectors: torch.Tensor) -> torch.Tensor:
    """Choose between each vector and its opposite: its largest component is positive."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors)


def layers_in(layers: Sequence[int] | None, num_ws: int) -> list[int]:
    """Return the given layers, or all.

    Raises:
        UserError: The network has no such layer.
    """
    if layers is None:
        return list(range(num_ws))
    check_layers("--layers", layers, num_ws)
    return sorted(set(layers))


def strengths(limit: float, num: int) -> list[float]:
    """Return ``num`` evenly spaced strengths from ``-limit`` to ``limit``; with an odd number, the middle one is 0."""
    return [limit * (2 * i - (num - 1)) / max(num - 1, 1) for i in range(num)]
