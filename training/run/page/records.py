"""The contents of a run folder for its page: state, options, curves, scores, health."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.errors import UserError
from dnnlib.jsonl import MAX_LINE_BYTES, finite
from metrics.results import results_files
from training.checkpoint_names import has_checkpoint
from training.run.best import read_best
from training.run.health.monitor import Monitor
from training.run.health.replay import read_scores, replay
from training.run.json_files import read_json_object
from training.run.lock import is_locked
from training.run.options_file import OPTIONS_FILE, read_options
from training.run.stats_file import STATS_FILE, read_series
from training.run.status import ENDED, read_status

MAX_POINTS = 300
"""Largest number of points of a curve; several runs on one page share them."""
REPORTED_RUNNING = "reported running"
"""State of a run that reported to be running, if its lock cannot be checked."""
UNREPORTED = "unreported"
"""State of a run without ``exit_status.json``, as of StyleGAN2-ADA."""


@dataclass
class Curve:
    """One statistic over training, each point the mean of some consecutive ticks."""

    kimg: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)


@dataclass
class RunRecords:
    """One run."""

    folder: Path
    name: str
    state: str
    """'running', `REPORTED_RUNNING`, `UNREPORTED`, or how it ended: one of `ENDED`."""
    error: str
    """What ended it, if it has failed; else empty."""
    kimg: float
    total_kimg: float
    options: dict[str, Any]
    curves: dict[str, Curve]
    scores: dict[str, list[tuple[float, float]]]
    """By name: (kimg, value) of each snapshot."""
    monitor: Monitor
    best: dict[str, Any] | None
    """Content of ``best.json``."""
    can_continue: bool
    """Whether ``train.py --continue`` finds options of its own and a checkpoint."""

    @property
    def resolution(self) -> int | None:
        """Side of the images in pixels, if it is known."""
        resolution = self.settings("training_set_kwargs").get("resolution")
        return resolution if type(resolution) is int and resolution > 0 else None

    def settings(self, name: str) -> dict[str, Any]:
        """Return the arguments of a class, such as 'training_set_kwargs'; empty if there are none."""
        found = self.options.get(name)
        return found if isinstance(found, dict) else {}

    def flat_options(self) -> Iterator[tuple[str, str]]:
        """Yield all options by dotted names."""
        return _flat(self.options)

    @property
    def sec_per_kimg(self) -> float | None:
        """Pace in the second half so far, with its snapshots and metrics; after one tick, that of training alone."""
        curve = self.curves.get("Timing/total_sec")
        if curve is None or not curve.kimg:
            return None
        begin = next(i for i, kimg in enumerate(curve.kimg) if kimg >= curve.kimg[-1] / 2)
        begin = max(min(begin, len(curve.kimg) - 2), 0)
        kimg, sec = (values[-1] - values[begin] for values in (curve.kimg, curve.mean))
        if kimg > 0:
            return finite(sec / kimg)
        only = self.curves.get("Timing/sec_per_kimg")
        return None if only is None else finite(only.mean[-1])


def read_records(run_dir: Path, monitor: Monitor | None = None, max_points: int = MAX_POINTS) -> RunRecords:
    """Read the files of a run, which may be running, of any age, or of StyleGAN2-ADA.

    Args:
        run_dir: Run folder.
        monitor: Health of the run; None to read it from the files.
        max_points: Largest number of points of a curve.

    Raises:
        UserError: There is no run.
        OSError: A file cannot be read.
    """
    if not (run_dir / STATS_FILE).is_file():
        raise UserError(f"{run_dir}: not a run folder that has finished a tick, {STATS_FILE} is missing")
    status = read_status(run_dir)
    options, is_ours = _read_options(run_dir)
    monitor = monitor or replay(run_dir, options)
    curves = read_curves(run_dir, max_points)
    kimg = monitor.history.kimg or float(status.get("kimg", 0.0))
    return RunRecords(
        folder=run_dir,
        name=run_dir.absolute().name,
        state=_state(run_dir, status.get("reason", "")),
        error=status.get("error", ""),
        kimg=kimg,
        total_kimg=float(status.get("total_kimg", 0.0)) or monitor.history.total_kimg or kimg,
        options=options,
        curves=curves,
        scores=_read_all_scores(run_dir, max_points),
        monitor=monitor,
        best=read_best(run_dir),
        can_continue=is_ours and has_checkpoint(run_dir),
    )


def _state(run_dir: Path, reason: str) -> str:
    if reason in ENDED:
        return reason
    if reason != "running":
        return UNREPORTED
    is_running = is_locked(run_dir)
    if is_running is None:
        return REPORTED_RUNNING
    return "running" if is_running else "interrupted"


def _read_options(run_dir: Path) -> tuple[dict[str, Any], bool]:
    """Return the arguments of the training loop, and whether the file is whole and of this project."""
    try:
        return read_options(run_dir), True
    except UserError:  # of StyleGAN2-ADA's train.py, or damaged; the curves are still there
        return read_json_object(run_dir / OPTIONS_FILE) or {}, False


def read_curves(run_dir: Path, max_points: int = MAX_POINTS) -> dict[str, Curve]:
    """Read all statistics of a run, averaged over consecutive ticks so that no curve has more points."""
    return {
        name: Curve(*(_thinned(column, max_points) for column in (each.kimg, each.mean, each.std)))
        for name, each in read_series(run_dir).items()
    }


def _thinned(values: np.ndarray, max_points: int) -> list[float]:
    """Average groups of consecutive values; 5 significant digits are all that a curve can show."""
    size = math.ceil(len(values) / max_points)
    groups = (values[i : i + size].tolist() for i in range(0, len(values), size))
    return [float(f"{sum(group) / len(group):.5g}") for group in groups]


def _read_all_scores(run_dir: Path, max_points: int) -> dict[str, list[tuple[float, float]]]:
    scores: dict[str, list[tuple[float, float]]] = {}
    for path in results_files(run_dir):
        for kimg, results in read_scores(path):
            for name, value in results.items():
                scores.setdefault(name, []).append((kimg, value))
    return {name: _with_the_last(points, max_points) for name, points in scores.items()}


def _with_the_last(points: list[tuple[float, float]], max_points: int) -> list[tuple[float, float]]:
    step = math.ceil(len(points) / max_points)
    return points[(len(points) - 1) % step :: step]


def _flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if isinstance(value, dict) and len(prefix) < 100:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"[:200], str(value)[:200]


def updated_sec(run_dir: Path) -> float:
    """Return when the run last reported, in seconds since 1970: what it wrote down, or when the file was changed."""
    path = run_dir / STATS_FILE
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - MAX_LINE_BYTES, 0))
        last = file.read().splitlines()[-1:]
    try:
        timestamp = float(json.loads(last[0])["timestamp"])
        time.localtime(timestamp)  # raises where it is no time
    except (LookupError, TypeError, ValueError, OverflowError, OSError, RecursionError):
        return path.stat().st_mtime
    return timestamp
