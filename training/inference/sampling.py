"""Images from a trained generator: latents by seed, labels by class, pixels as PNG files hold them (CONTRACT 9).

Letters in shapes: N images, L = num_ws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from dnnlib.util import UserError, open_url
from metrics.generated import ItemNoise, to_uint8
from training.snapshots.load import load_network_pkl
from training.snapshots.portable import load_portable

T = TypeVar("T")


def load_generator(network: str, device: torch.device, trusted: bool = False) -> Any:
    """Load a generator for inference.

    Args:
        network: Snapshot, by path or https URL, of which G_ema is taken; or a folder with ``model.safetensors`` and
            ``config.json``.
        device: Where to put it.
        trusted: Let the snapshot execute code.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    if Path(network).is_dir():
        G: Any = load_portable(Path(network))
    else:
        with open_url(network) as file:
            G = load_network_pkl(file, trusted=trusted)["G_ema"]
    return G.eval().requires_grad_(False).to(device)


def class_label(G: Any, class_idx: int | None, device: torch.device) -> torch.Tensor:
    """Make the label ``[1, c_dim]`` of a class; of an unconditional generator, for which None is the only class, empty.

    Raises:
        UserError: The generator has no such class, or has classes and none is given.
    """
    if class_idx is None and G.c_dim > 0:
        raise UserError(f"this network draws images of {G.c_dim} classes: choose one by --class=0..{G.c_dim - 1}")
    if class_idx is not None and not 0 <= class_idx < G.c_dim:
        known = f"classes 0..{G.c_dim - 1}" if G.c_dim else "no classes"
        raise UserError(f"--class={class_idx}: this network has {known}")
    label = torch.zeros([1, G.c_dim], device=device)
    if class_idx is not None:
        label[0, class_idx] = 1
    return label


def map_z(G: Any, z: np.ndarray, label: torch.Tensor, truncation_psi: float = 1) -> torch.Tensor:
    """Map latents ``[N, z_dim]``, all with one label ``[1, c_dim]``, to ws ``[N, L, w_dim]``."""
    latents = torch.from_numpy(z.astype(np.float32)).to(label.device)
    with torch.no_grad():
        ws: torch.Tensor = G.mapping(latents, label.expand(len(z), -1), truncation_psi=truncation_psi)
    return ws


def map_seeds(G: Any, seeds: Sequence[int], label: torch.Tensor, truncation_psi: float = 1) -> torch.Tensor:
    """Map the latents of N seeds to ws ``[N, L, w_dim]``."""
    z = np.concatenate([np.random.RandomState(seed).randn(1, G.z_dim) for seed in seeds])
    return map_z(G, z, label, truncation_psi)


def synthesize(
    G: Any, ws: torch.Tensor, noise_mode: str = "const", noise_seeds: Sequence[int] | None = None
) -> np.ndarray:
    """Draw images.

    Args:
        G: The generator.
        ws: ``[N, L, w_dim]``.
        noise_mode: ``'const'``, ``'random'`` or ``'none'``.
        noise_seeds: N seeds of random noise, which thus does not depend on the other images. Default: 0..N-1.

    Returns:
        uint8 ``[N, H, W, C]``.
    """
    with torch.no_grad(), ItemNoise(list(noise_seeds or range(len(ws))), ws.device):
        img = G.synthesis(ws, noise_mode=noise_mode)
    return to_uint8(img).permute(0, 2, 3, 1).cpu().numpy()


def in_batches(items: Sequence[T], batch_size: int) -> Iterator[Sequence[T]]:
    """Yield slices of up to ``batch_size`` items."""
    for start in range(0, len(items), batch_size):
        yield items[start : start + batch_size]


def load_projected_w(path: Path, G: Any, device: torch.device) -> torch.Tensor:
    """Read ws ``[N, L, w_dim]`` for ``G`` from entry ``w`` of an npz file.

    Raises:
        UserError: The file holds none that fit.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            w = data["w"]
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except Exception as error:  # damaged files make numpy and zipfile raise almost anything
        raise UserError(f"{path} is no npz file with entry 'w', as projector.py writes it") from error
    if w.shape[1:] != (G.num_ws, G.w_dim) or w.dtype.kind != "f":
        raise UserError(f"{path}: this network takes w [N, {G.num_ws}, {G.w_dim}], got {w.dtype} {list(w.shape)}")
    return torch.from_numpy(w.astype(np.float32)).to(device)
