"""The snapshots of a run that are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dnnlib.jsonl import read_lines, statistic
from training.run.names import snapshot_kimg
from training.run.status import read_status

TICKS_PER_SNAPSHOT = 4


def scored_snapshots(run_dir: Path) -> list[Path]:
    """List the snapshots of a run that are scored, in order.

    Left out are that of the first tick, which shows noise, and those that the run left when it was stopped: when that
    happens is chance.
    """
    planned = _planned_names(run_dir)
    return sorted(
        path
        for path in run_dir.glob("network-snapshot-*.pkl")
        if snapshot_kimg(path.name) and (planned is None or path.name in planned)
    )


def _planned_names(run_dir: Path) -> set[str] | None:
    """Names that snapshots at the due ticks can have, and that at the end of a finished run; None without a record."""
    ticks = [_tick_and_nimg(line) for _number, line in read_lines(run_dir / "stats.jsonl")]
    if not ticks:
        return None
    due = [nimg for tick, nimg in ticks if tick % TICKS_PER_SNAPSHOT == 0]
    if read_status(run_dir).get("reason") == "finished":
        due.append(ticks[-1][1])
    return {f"network-snapshot-{nimg // 1000:06d}{rest}.pkl" for nimg in due for rest in ("", f"_{nimg % 1000:03d}")}


def _tick_and_nimg(line: dict[str, Any]) -> tuple[int, int]:
    tick, kimg = statistic(line, "Progress/tick"), statistic(line, "Progress/kimg")
    return (-1, 0) if tick is None or kimg is None else (round(tick), round(kimg * 1000))  # or a damaged line
