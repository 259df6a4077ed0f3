"""Short names of runs that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Name each folder by its own name, after those of as many parents as it takes to tell it from the others."""
    paths = [folder.absolute().parts for folder in folders]
    return [str(Path(*_end(path, [other for other in paths if other != path]))) for path in paths]


def _end(path: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the shortest end of a path that is the end of no other."""
    ends = (path[-length:] for length in range(1, len(path)))
    return next((end for end in ends if all(other[-len(end) :] != end for other in others)), path)
