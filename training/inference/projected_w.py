"""Reading of projected w, as projector.py writes them."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from dnnlib.errors import UserError
from dnnlib.file_content import content_fault

MAX_W_BYTES = 1 << 29
"""Limit of an array of projected w: 14 000 float32 ws of 18 x 512. A compressed file can promise any size."""


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
