"""Statistics of features that arrive in batches: all of them, or their mean and covariance."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np
import torch

from dnnlib.atomic import write_atomic
from torch_utils.distributed import gather_tensors

_FOLD_ROWS = 1024
"""Rows that are buffered before they enter the moments: one large product is faster than many small ones."""


class FeatureStats:
    """Collects features [N, D] up to ``max_items`` rows and ignores the rest.

    Args:
        capture_all: Keep every row, for `get_all` (and the moments).
        capture_mean_cov: Keep only the moments, for `get_mean_cov`.
        max_items: Maximum number of rows. Default: no limit.
    """

    def __init__(self, capture_all: bool = False, capture_mean_cov: bool = False, max_items: int | None = None) -> None:
        self.capture_all = capture_all
        self.capture_mean_cov = capture_mean_cov
        self.max_items = max_items
        self.num_items = 0
        self.num_features: int | None = None
        self._rows: list[np.ndarray] = []
        self._num_waiting = 0
        self._sum = np.zeros([])
        self._outer = np.zeros([])

    def is_full(self) -> bool:
        """Return whether further rows would be ignored."""
        return self.max_items is not None and self.num_items >= self.max_items

    def append(self, x: np.ndarray) -> None:
        """Add rows [N, D]; they are kept as float32.

        Raises:
            ValueError: The shape is not [N, D] with the D of the rows so far.
        """
        x = np.asarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != (self.num_features or x.shape[1]):
            raise ValueError(f"features must be [N, {self.num_features or 'D'}], got {list(x.shape)}")
        self.num_features = x.shape[1]
        if self.max_items is not None:
            x = x[: self.max_items - self.num_items]
        self.num_items += len(x)
        self._rows.append(x)
        self._num_waiting += len(x)
        if not self.capture_all and self._num_waiting >= _FOLD_ROWS:
            self._sum, self._outer = self._moments()
            self._rows, self._num_waiting = [], 0

    def append_torch(self, x: torch.Tensor, num_gpus: int = 1, rank: int = 0) -> None:
        """Add the rows of all processes: row i of process r becomes row i * ``num_gpus`` + r.

        Every process must call this, and all of them get the same statistics.

        Args:
            x: Rows of this process, float32 [N, D], with the same N and D in every process.
            num_gpus: Number of processes.
            rank: Not used; accepted for compatibility.
        """
        if num_gpus > 1:
            x = torch.stack(gather_tensors(x), dim=1).flatten(0, 1)
        self.append(x.cpu().numpy())

    def get_all(self) -> np.ndarray:
        """Return all rows in the order in which they were added, float32 [N, D]."""
        assert self.capture_all
        self._rows = [np.concatenate(self._rows)]
        return self._rows[0]

    def get_all_torch(self) -> torch.Tensor:
        """Return all rows as a tensor on the CPU."""
        return torch.from_numpy(self.get_all())

    def get_mean_cov(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean [D] and covariance [D, D] (normalized by 1/N), float64."""
        assert self.capture_mean_cov
        total, outer = self._moments()
        mean = total / self.num_items
        return mean, outer / self.num_items - np.outer(mean, mean)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of all rows [D] and of their outer products [D, D], float64, also of rows no longer kept."""
        rows = np.concatenate([np.empty([0, self.num_features or 0]), *self._rows])
        return self._sum + rows.sum(axis=0), self._outer + rows.T @ rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics to an npz file, atomically."""
        arrays: dict[str, Any]
        arrays = (
            {"rows": self.get_all()} if self.capture_all else dict(zip(("sum", "outer"), self._moments(), strict=True))
        )
        write_atomic(path, lambda file: np.savez(file, num_items=self.num_items, **arrays))

    @staticmethod
    def load(path: str | os.PathLike[str], **kwargs: Any) -> FeatureStats:
        """Read statistics that were saved by an object with the same constructor arguments ``kwargs``.

        Raises:
            ValueError: The file is damaged or contains something else.
        """
        stats = FeatureStats(**kwargs)
        names = ("rows",) if stats.capture_all else ("sum", "outer")
        try:
            _refuse_compressed(path)
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
                stats.num_items = int(data["num_items"])
                stats._take([data[name] for name in names])
        except Exception as err:  # damaged files make numpy and zipfile raise almost anything
            raise ValueError(f"{path}: not feature statistics ({str(err)[:200]!a})") from err
        return stats

    def _take(self, arrays: list[np.ndarray]) -> None:
        """Take over the arrays that `save` wrote, after a look at their types and shapes."""
        first = arrays[0]
        num = first.shape[-1]
        if self.capture_all:
            is_good = first.shape == (self.num_items, num) and first.dtype == np.float32
            self._rows = arrays
        else:
            is_good = first.shape == (num,) and arrays[1].shape == (num, num) and self.num_items > 0
            is_good = is_good and first.dtype == arrays[1].dtype == np.float64
            self._sum, self._outer = arrays
        self.num_features = num
        if not (is_good and all(np.isfinite(array).all() for array in arrays)):
            raise ValueError("arrays of other types or shapes, or values that are not finite")


def _refuse_compressed(path: str | os.PathLike[str]) -> None:
    """Refuse a file that takes more memory than its own size: `FeatureStats.save` compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed")
