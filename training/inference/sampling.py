"""Images from a trained generator: latents by seed, labels by class, pixels as in the PNG files of StyleGAN2-ADA.

The formulas are those of docs/compatibility.md. Letters in shapes: N images, L = num_ws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from metrics.generated import ItemNoise, to_uint8

T = TypeVar("T")

_MAPPING_BATCH = 1000
"""Latents that are mapped to w at a time."""


def can_truncate(G: Any) -> bool:
    """Return whether a network has an average w, which truncation needs."""
    return getattr(G.mapping, "w_avg", None) is not None


def check_truncation(G: Any, truncation_psi: float) -> None:
    """Check that a network can truncate.

    Raises:
        UserError: ``truncation_psi`` is not 1, and the average w is missing or not finite.
    """
    if truncation_psi == 1:
        return
    if not can_truncate(G):
        raise UserError(f"this network has no average w to truncate towards: use --trunc=1, not {truncation_psi:g}")
    if not torch.isfinite(G.mapping.w_avg).all():
        raise UserError(
            f"the average w of this network (mapping.w_avg) is not finite, as in some snapshots of StyleGAN2-ADA: use "
            f"--trunc=1, not {truncation_psi:g}"
        )


def class_label(G: Any, class_idx: int | None, device: torch.device) -> torch.Tensor:
    """Return the one-hot label ``[1, c_dim]`` of a class; for unconditional generators, class None and ``[1, 0]``.

    Raises:
        UserError: The generator has no such class, or is conditional and the class is None.
    """
    if class_idx is None and G.c_dim > 0:
        classes = plural(G.c_dim, "class")
        raise UserError(f"this network is conditional on {classes}: choose one with --class=0..{G.c_dim - 1}")
    if class_idx is not None and not 0 <= class_idx < G.c_dim:
        known = f"classes 0..{G.c_dim - 1}" if G.c_dim else "no classes"
        raise UserError(f"--class={class_idx}: this network has {known}")
    label = torch.zeros([1, G.c_dim], device=device)
    if class_idx is not None:
        label[0, class_idx] = 1
    return label


def map_z(G: Any, z: np.ndarray, label: torch.Tensor, truncation_psi: float = 1) -> torch.Tensor:
    """Map latents ``[N, z_dim]``, all with the label ``[1, c_dim]``, to ws ``[N, L, w_dim]``."""
    latents = torch.from_numpy(z.astype(np.float32)).to(label.device)
    with torch.no_grad():
        ws: torch.Tensor = G.mapping(latents, label.expand(len(z), -1), truncation_psi=truncation_psi)
    return ws


def map_to_w(G: Any, z: np.ndarray, label: torch.Tensor) -> torch.Tensor:
    """Map latents ``[N, z_dim]``, all with the label ``[1, c_dim]``, to w ``[N, w_dim]``, the same for every layer."""
    return map_z(G, z, label)[:, 0].clone()  # a view would keep the copies for all layers in memory


def sample_w(G: Any, label: torch.Tensor, num: int, seed: int) -> torch.Tensor:
    """Map ``num`` latents of one random stream to w ``[num, w_dim]``, without truncation."""
    rng = np.random.RandomState(seed)
    sizes = [min(_MAPPING_BATCH, num - start) for start in range(0, num, _MAPPING_BATCH)]
    return torch.cat([map_to_w(G, rng.randn(size, G.z_dim), label) for size in sizes])


def map_seeds(G: Any, seeds: Sequence[int], label: torch.Tensor, truncation_psi: float = 1) -> torch.Tensor:
    """Map the latents of N seeds to ws ``[N, L, w_dim]``."""
    z = np.concatenate([np.random.RandomState(seed).randn(1, G.z_dim) for seed in seeds])
    return map_z(G, z, label, truncation_psi)


def check_layers(flag: str, layers: Sequence[int], num_ws: int) -> None:
    """Check that a network has the layers that a flag names.

    Raises:
        UserError: It has no such layer.
    """
    if max(layers) >= num_ws:
        raise UserError(f"{flag}: there is no layer {max(layers)}, this network has layers 0-{num_ws - 1}")


def synthesize(
    G: Any, ws: torch.Tensor, noise_mode: str = "const", noise_seeds: Sequence[int] | None = None
) -> np.ndarray:
    """Generate images.

    Args:
        G: The generator.
        ws: ``[N, L, w_dim]``.
        noise_mode: ``'const'``, ``'random'`` or ``'none'``.
        noise_seeds: N seeds of random noise, which makes it independent of the other images. Default: 0..N-1.

    Returns:
        uint8 ``[N, H, W, C]``.

    Raises:
        UserError: The images are not finite.
    """
    with torch.no_grad(), ItemNoise(list(noise_seeds or range(len(ws))), ws.device):
        img = G.synthesis(ws, noise_mode=noise_mode)
    return to_uint8(img).permute(0, 2, 3, 1).cpu().numpy()


def in_batches(items: Sequence[T], batch_size: int) -> Iterator[Sequence[T]]:
    """Yield slices of up to ``batch_size`` items."""
    for start in range(0, len(items), batch_size):
        yield items[start : start + batch_size]
