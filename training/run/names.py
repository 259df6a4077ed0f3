"""The names of a run's snapshots and sample grids, which say how many images had been seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SNAPSHOT_PREFIX = "network-snapshot-"
SNAPSHOTS = f"{SNAPSHOT_PREFIX}*.pkl"
GRIDS = "fakes*.png"
INITIAL_GRID = "fakes_init.png"
"""The grid that is drawn before training."""
REALS_FILE = "reals.png"
"""A grid of real images."""
_SNAPSHOT = re.compile(rf"{SNAPSHOT_PREFIX}(\d{{6,9}})(?:_(\d{{3}}))?\.pkl")
_GRID = re.compile(rf"{re.escape(INITIAL_GRID)}|fakes(\d{{6,9}})(?:_(\d{{3}}))?(_G)?\.png")


@dataclass(frozen=True)
class GridName:
    """The parsed name of a sample grid."""

    kimg: float
    """Thousands of images seen."""
    is_initial: bool
    """Whether it is `INITIAL_GRID`."""
    is_unaveraged: bool
    """Whether it was drawn by G instead of its moving average, which shows little at first."""


def snapshot_name(nimg: int, is_exact: bool = False) -> str:
    """Return the name of a snapshot.

    Args:
        nimg: Images seen.
        is_exact: Whether the name has all digits of ``nimg``, not only those of the thousands.
    """
    return f"{SNAPSHOT_PREFIX}{_number(nimg, is_exact)}.pkl"


def grid_file_name(nimg: int, is_exact: bool, is_unaveraged: bool = False) -> str:
    """Return the name of a sample grid; the arguments are those of `snapshot_name` and of `GridName`."""
    return f"fakes{_number(nimg, is_exact)}{'_G' if is_unaveraged else ''}.png"


def _number(nimg: int, is_exact: bool) -> str:
    kimg, rest = divmod(nimg, 1000)
    return f"{kimg:06d}_{rest:03d}" if is_exact else f"{kimg:06d}"


def has_exact_names(run_dir: Path, nimg: int) -> bool:
    """Return whether a snapshot or grid of the same kimg has an exact name."""
    kimg = f"{nimg // 1000:06d}"
    return any(run_dir.glob(f"{SNAPSHOT_PREFIX}{kimg}_*")) or any(run_dir.glob(f"fakes{kimg}_[0-9]*"))


def snapshot_kimg(name: str) -> float | None:
    """Return the thousands of images in the name of a snapshot; None for another file."""
    match = _SNAPSHOT.fullmatch(name)
    return None if match is None else _kimg(match)


def list_snapshots(run_dir: Path) -> list[tuple[float, Path]]:
    """List the snapshots of a run, the oldest first, each with the thousands of images in its name."""
    found = [(snapshot_kimg(path.name), path) for path in _files(run_dir, SNAPSHOTS)]
    return sorted((kimg, path) for kimg, path in found if kimg is not None)


def newest_snapshot(run_dir: Path) -> Path | None:
    """Return the snapshot of a run that has seen the most images; None if there are none."""
    return next((path for _kimg, path in reversed(list_snapshots(run_dir))), None)


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
    for path in sorted(_files(run_dir, GRIDS)):  # fakes000001.png comes before fakes000001_G.png
        name = grid_name(path.name)
        if name is not None:
            found[-1.0 if name.is_initial else name.kimg] = (name, path)
    if len(found) > 2 and -1.0 in found:
        found.pop(0.0, None)
    return [found[kimg] for kimg in sorted(found)]


def _files(run_dir: Path, pattern: str) -> Iterator[Path]:
    """Regular files: in a run folder from elsewhere, a pipe would be waited for."""
    return (path for path in run_dir.glob(pattern) if path.is_file())


def _kimg(match: re.Match[str]) -> float:
    return (int(match[1]) * 1000 + int(match[2] or 0)) / 1000
