"""The names of a run's snapshots and sample grids, which say how many images had been seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# If two files share their thousands of images, the second also has the last three digits, after an underscore.
_SNAPSHOT = re.compile(r"network-snapshot-(\d{6,9})(?:_(\d{3}))?\.pkl")
_GRID = re.compile(r"fakes(?:_init|(\d{6,9})(?:_(\d{3}))?(_G)?)\.png")


@dataclass(frozen=True)
class GridName:
    """The parsed name of a sample grid."""

    kimg: float
    """Thousands of images seen."""
    is_initial: bool
    """Whether it was drawn before training: ``fakes_init.png``."""
    is_unaveraged: bool
    """Whether it was drawn by G instead of its moving average, which shows little at first."""


def snapshot_kimg(name: str) -> float | None:
    """Return the thousands of images in the name of a snapshot; None for another file."""
    match = _SNAPSHOT.fullmatch(name)
    return None if match is None else _kimg(match)


def grid_name(name: str) -> GridName | None:
    """Parse the name of a sample grid; None for another file."""
    match = _GRID.fullmatch(name)
    if match is None:
        return None
    is_initial = match[1] is None
    return GridName(0.0 if is_initial else _kimg(match), is_initial, is_unaveraged=match[3] is not None)


def find_grids(run_dir: Path) -> list[tuple[GridName, Path]]:
    """List the sample grids of a run in order.

    Early in training there are two: of the moving average of G, which shows little then, and of G, which is taken. The
    grid after one iteration is left out if there are others: it looks like that before training.
    """
    found: dict[float, tuple[GridName, Path]] = {}
    for path in sorted(run_dir.glob("fakes*.png")):  # fakes000001.png comes before fakes000001_G.png
        name = grid_name(path.name)
        if name is not None:
            found[-1.0 if name.is_initial else name.kimg] = (name, path)
    if len(found) > 2 and -1.0 in found:
        found.pop(0.0, None)
    return [found[kimg] for kimg in sorted(found)]


def _kimg(match: re.Match[str]) -> float:
    return (int(match[1]) * 1000 + int(match[2] or 0)) / 1000
