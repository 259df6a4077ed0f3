"""Images from a trained generator: latents by seed, labels by class, pixels as in the PNG files of StyleGAN2-ADA.

The formulas are those of docs/compatibility.md. Letters in shapes: N images, L = num_ws.
"""

from __future__ import annotations

import logging
import math
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch

from dnnlib.download import content_fault
from dnnlib.util import UserError
from metrics.generated import ItemNoise, to_uint8
from training.data.archive import open_archive
from training.data.codec import require_images
from training.data.labels import read_labels
from training.data.names import some
from training.run.latest import find_network
from training.snapshots.portable import load_portable
from training.snapshots.state import open_snapshot

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_W_BYTES = 1 << 29
"""Limit of an array of projected w: 14 000 float32 ws of 18 x 512. A compressed file can promise any size."""

MAX_GRID_PX = 1 << 16
"""Limit of the width and the height of a grid of images."""

MAX_GRID_AREA_PX = 1 << 30
"""Limit of its area, since it is drawn in memory: 3 GiB in RGB."""


def load_network(network: str, trusted: bool = False, verbose: bool = True) -> tuple[Any, dict[str, Any] | None]:
    """Load a generator on the CPU, and what its file says about its training set.

    The log tells what was repaired in the network and what else the file contains.

    Args:
        network: Snapshot, by path or https URL; checkpoint (``training-state-*.safetensors``) in its run folder; what
            `find_network` takes; or a folder with ``model.safetensors`` and ``config.json``.
        trusted: Allow the snapshot to execute code.
        verbose: Announce a download.

    Returns:
        G_ema in eval mode, and ``training_set_kwargs``, which may name any class: None if the file does not contain it.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    parts = _load_parts(network, ["G_ema", "training_set_kwargs"], trusted, verbose)
    return parts["G_ema"].eval(), parts.get("training_set_kwargs")


def pretrained_part_of_D(network: str, trusted: bool = False) -> str:
    """Tell what pretrained network, if any, the discriminator of a snapshot judges by.

    Args:
        network: As for `load_network`.
        trusted: Likewise.

    Returns:
        The network and the images that it was trained on, such as ``EfficientNet-Lite0 (ImageNet)``; ``none``; or
        ``unknown``, if there is no D in the file, or one of an unknown class.
    """
    try:
        network = find_network(network)
        D = None if Path(network).is_dir() else _load_parts(network, ["D"], trusted, verbose=False)["D"]
    except UserError:
        return "unknown"
    return "unknown" if D is None else str(getattr(D, "pretrained", "none"))


def load_generator(network: str, device: torch.device, trusted: bool = False) -> Any:
    """Load a generator for inference, as `load_network` does, without gradients; nothing else in the file matters."""
    G = _load_parts(network, ["G_ema"], trusted)["G_ema"]
    return G.eval().requires_grad_(False).to(device)


def _load_parts(network: str, names: Sequence[str], trusted: bool, verbose: bool = True) -> dict[str, Any]:
    named, network = network, find_network(network)
    if network != named:
        print(f"Network: {network}", file=sys.stderr)
    if Path(network).is_dir():
        return {"G_ema": load_portable(Path(network))}
    snapshot = open_snapshot(network, names, trusted, verbose)
    for note in snapshot.notes:
        _log.warning("%s: %s", network, note)
    return snapshot.parts


def can_truncate(G: Any) -> bool:
    """Return whether a network has an average w; that of FastGAN has none."""
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


def class_number(network: str, name: str, trusted: bool = False) -> int:
    """Return the number of the class of a name, in the ``dataset.json`` that a network was trained on.

    Args:
        network: As for `load_network`.
        name: Name of the class.
        trusted: Allow the snapshot to execute code.

    Raises:
        UserError: There is no such class, or the names are not known: the dataset was moved, or has none.
    """
    where = f"--class={name[:100]!a}"
    network = find_network(network)
    settings = {} if Path(network).is_dir() else open_snapshot(network, ["training_set_kwargs"], trusted).parts
    path = (settings.get("training_set_kwargs") or {}).get("path")
    if not isinstance(path, str) or not Path(path).exists():
        reason = "does not tell its training set" if path is None else f"was trained on {str(path)[:1000]!a}, now gone"
        raise UserError(f"{where}: {network} {reason}, which holds the names of the classes: give the number")
    with closing(open_archive(path)) as archive:
        labels = read_labels(archive, require_images(archive))
    names = (None if labels is None else labels.class_names) or []
    if name not in names:
        known = f"its classes are {some(names)}" if names else "its dataset.json has no class_names: give the number"
        raise UserError(f"{where}: {network} was trained on {path}; {known}")
    return names.index(name)


def class_label(G: Any, class_idx: int | None, device: torch.device) -> torch.Tensor:
    """Return the one-hot label ``[1, c_dim]`` of a class; for unconditional generators, class None and ``[1, 0]``.

    Raises:
        UserError: The generator has no such class, or is conditional and the class is None.
    """
    if class_idx is None and G.c_dim > 0:
        raise UserError(f"this network is conditional on {G.c_dim} classes: choose one with --class=0..{G.c_dim - 1}")
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


def map_seeds(G: Any, seeds: Sequence[int], label: torch.Tensor, truncation_psi: float = 1) -> torch.Tensor:
    """Map the latents of N seeds to ws ``[N, L, w_dim]``."""
    z = np.concatenate([np.random.RandomState(seed).randn(1, G.z_dim) for seed in seeds])
    return map_z(G, z, label, truncation_psi)


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


def max_rows(columns: int, resolution_px: int) -> int:
    """Return the most rows of square images that a grid may have, by `MAX_GRID_PX` and `MAX_GRID_AREA_PX`."""
    return min(MAX_GRID_PX // resolution_px, MAX_GRID_AREA_PX // (columns * resolution_px**2))


def check_grid(columns: int, rows: int, resolution_px: int) -> None:
    """Check the size of a grid of square images before they are drawn.

    Raises:
        UserError: It is wider or higher than `MAX_GRID_PX`, or has more than `MAX_GRID_AREA_PX` in all.
    """
    if columns * resolution_px > MAX_GRID_PX or rows > max_rows(columns, resolution_px):
        raise UserError(
            f"a grid of {columns} x {rows} images of {resolution_px} px is too large: a side may have {MAX_GRID_PX} px"
            f", and all of it {MAX_GRID_AREA_PX} px"
        )


def fit_grid(size: tuple[int, int], num: int, resolution_px: int) -> tuple[int, int]:
    """Return (columns, rows) for ``num`` images; ``size`` (0, 0) asks for an approximately square grid.

    Raises:
        UserError: The images do not fit in the grid, or the grid is too large.
    """
    columns, rows = size
    if size == (0, 0):
        columns = math.ceil(math.sqrt(num))
        rows = math.ceil(num / columns)
    if columns * rows < num:
        raise UserError(f"--grid={columns}x{rows}: {num} images do not fit in {columns * rows} cells")
    check_grid(columns, rows, resolution_px)
    return columns, rows


def load_projected_w(path: Path, G: Any, device: torch.device) -> torch.Tensor:
    """Read ws ``[N, L, w_dim]`` for ``G`` from entry ``w`` of an npz file.

    Shape and type are checked before the array is unpacked.

    Raises:
        UserError: The file contains no such array, or one that does not fit or is too large.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if fault := content_fault(path):
        raise UserError(f"{path} is {fault}, not an npz file with an array 'w'")
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("w.npy") as file:
                shape, dtype = _array_header(file)
            _check_w(path, shape, dtype, G)
            with archive.open("w.npy") as file:
                w = np.lib.format.read_array(file, allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # damaged files make numpy and zipfile raise almost anything
        raise UserError(f"{path} is not an npz file with an array 'w', as projector.py writes it") from error
    with np.errstate(over="ignore"):
        w = w.astype(np.float32)
    if not np.isfinite(w).all():
        raise UserError(f"{path}: w contains values that are not finite")
    return torch.from_numpy(w).to(device)


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _is_fortran_order, dtype = readers[np.lib.format.read_magic(file)](file)
    return shape, dtype


def _check_w(path: Path, shape: tuple[int, ...], dtype: np.dtype, G: Any) -> None:
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != (G.num_ws, G.w_dim) or dtype.kind != "f":
        found = f"{dtype.name[:20]!a} {str(list(shape))[:100]}"
        raise UserError(f"{path}: this network takes floats w [N, {G.num_ws}, {G.w_dim}], the file has {found}")
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes > MAX_W_BYTES:
        raise UserError(f"{path}: w has {num_bytes >> 20} MiB, the limit is {MAX_W_BYTES >> 20}; split it into files")
