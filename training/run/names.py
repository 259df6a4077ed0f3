"""What the names of a run's pictures, snapshots and checkpoints say: after how many images they were written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# The second file of the same thousands of images has the rest of them, three digits, after an underscore.
_SNAPSHOT = re.compile(r"network-snapshot-(\d{6,9})(?:_(\d{3}))?\.pkl")
_CHECKPOINT = re.compile(r"training-state-(\d{9,})\.safetensors")
_GRID = re.compile(r"fakes(?:_init|(\d{6,9})(?:_(\d{3}))?(_G)?)\.png")


@dataclass(frozen=True)
class GridName:
    """The name of a grid of samples."""

    kimg: float
    """Thousands of images seen."""
    is_initial: bool
    """Drawn before training: ``fakes_init.png``."""
    is_unaveraged: bool
    """Drawn by G itself, while its moving average showed little."""


def snapshot_kimg(name: str) -> float | None:
    """Return the thousands of images that a snapshot names, None if it is another file."""
    match = _SNAPSHOT.fullmatch(name)
    return None if match is None else _kimg(match)


def checkpoint_nimg(name: str) -> int | None:
    """Return the images that a checkpoint names, None if it is another file."""
    match = _CHECKPOINT.fullmatch(name)
    return None if match is None else int(match[1])


def grid_name(name: str) -> GridName | None:
    """Return what the name of a grid of samples says, None if it is another file."""
    match = _GRID.fullmatch(name)
    if match is None:
        return None
    is_initial = match[1] is None
    return GridName(0.0 if is_initial else _kimg(match), is_initial, is_unaveraged=match[3] is not None)


def find_grids(run_dir: Path) -> list[tuple[GridName, Path]]:
    """List the grids of samples of a run in order.

    Where G was drawn as well, because its moving average shows little so early, G is taken. The grid after one
    iteration is left out if there are others: it looks like that before training.
    """
    found: dict[float, tuple[GridName, Path]] = {}
    for path in sorted(run_dir.glob("fakes*.png")):  # fakes000001.png comes before fakes000001_G.png
        said = grid_name(path.name)
        if said is not None:
            found[-1.0 if said.is_initial else said.kimg] = (said, path)
    if len(found) > 2 and -1.0 in found:
        found.pop(0.0, None)
    return [found[kimg] for kimg in sorted(found)]


def _kimg(match: re.Match[str]) -> float:
    return (int(match[1]) * 1000 + int(match[2] or 0)) / 1000
