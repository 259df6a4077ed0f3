"""The snapshots of a run, and what their names say."""

from __future__ import annotations

import re
from pathlib import Path

TICKS_PER_SNAPSHOT = 4


def snapshot_kimg(name: str) -> float | None:
    """Read from the name of a snapshot after how many thousand images it was taken, rounded down."""
    match = re.fullmatch(r"network-snapshot-(\d{6,9})(?:_(\d{3}))?\.pkl", name)
    return None if match is None else int(match[1]) + int(match[2] or 0) / 1000


def scored_snapshots(run_dir: Path) -> list[Path]:
    """List the snapshots of a run that are scored, in order: all but that of the first tick, which shows noise."""
    return sorted(path for path in run_dir.glob("network-snapshot-*.pkl") if snapshot_kimg(path.name))
