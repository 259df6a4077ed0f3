"""The statistics of a run in files: ``stats.jsonl`` and TensorBoard events; on request also Weights & Biases."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import numpy as np

from torch_utils import training_stats
from training.data.overview import overview
from training.run.events import EventFiles
from training.run.stats_file import STATS_FILE
from training.run.wandb_run import WandbRun


class RunLog:
    """``stats.jsonl``, event files if TensorBoard is installed, and on request Weights & Biases; written by rank 0.

    Args:
        run_dir: Run folder.
        num_bytes: Length of ``stats.jsonl`` to keep; the rest belongs to ticks that will be repeated.
        cur_nimg: Images seen so far, from which on events are dropped, too.
        steps_per_kimg: 1 if a step of the event files is a thousand images, 1000 if it is one image.
        other: Another destination of statistics and samples: 'wandb' or None.

    Raises:
        UserError: As for `WandbRun`.
    """

    def __init__(
        self, run_dir: Path, num_bytes: int, cur_nimg: int, steps_per_kimg: int = 1, other: str | None = None
    ) -> None:
        path = run_dir / STATS_FILE
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._file.truncate(min(num_bytes, self.num_bytes))
        self._is_line_cut = _ends_within_line(path)
        self._steps_per_kimg = steps_per_kimg
        self._curves: list[EventFiles | WandbRun] = [EventFiles(run_dir, self._step(cur_nimg))]
        if other == "wandb":
            self._curves.append(WandbRun(run_dir))

    def _step(self, cur_nimg: int) -> int:
        return cur_nimg * self._steps_per_kimg // 1000

    @property
    def num_bytes(self) -> int:
        """Length of ``stats.jsonl`` so far."""
        return self._file.seek(0, os.SEEK_END)

    def write(
        self,
        cur_nimg: int,
        stats: training_stats.Collector,
        alarms: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ) -> None:
        """Add the statistics of one tick, and further ones by name; a number that is not finite becomes null."""
        timestamp = time.time()
        found: dict[str, Mapping[str, float]] = {**stats.as_dict(), **alarms}
        values = {name: {key: _finite(x) for key, x in each.items()} for name, each in found.items()}
        line = json.dumps({**values, "timestamp": timestamp}, allow_nan=False).encode() + b"\n"
        self._append(b"\n" + line if self._is_line_cut else line)
        self._is_line_cut = False
        means = {name: each["mean"] for name, each in found.items()}
        for curves in self._curves:
            curves.write(means, self._step(cur_nimg), timestamp)

    def _append(self, line: bytes) -> None:
        """Add a line durably, as the next checkpoint relies on it; if the disk is full, nothing of it stays."""
        num_bytes = self.num_bytes
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(num_bytes)
            raise

    def write_metrics(self, cur_nimg: int, results: dict[str, float]) -> None:
        """Add metric values to the event file; ``metrics.metric_main`` writes them to their own files."""
        values = {f"Metrics/{name}": value for name, value in results.items()}
        for curves in self._curves:
            curves.write(values, self._step(cur_nimg))

    def write_samples(self, name: str, cur_nimg: int, img: np.ndarray, columns: int) -> None:
        """Add a sample grid to the event file.

        Args:
            name: Its name there.
            cur_nimg: Images seen.
            img: Its images row by row, float32 ``[N, C, H, W]`` of about [-1, 1].
            columns: Number of images in a row.
        """
        picture = overview(img, columns)
        for curves in self._curves:
            curves.write_image(name, picture, self._step(cur_nimg))

    def close(self) -> None:
        """Close all files, even if one of them fails."""
        with ExitStack() as closing:
            closing.callback(self._file.close)
            for curves in self._curves:
                closing.callback(curves.close)


def _ends_within_line(path: Path) -> bool:
    """Return whether the last line was cut, as in a file that was edited meanwhile: the next tick needs one of its own.

    It is ended with the next tick, since the disk may be full when training begins.
    """
    if path.stat().st_size == 0:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _finite(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
