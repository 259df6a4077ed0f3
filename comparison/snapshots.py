"""The snapshots of a run that are scored."""

from __future__ import annotations

from pathlib import Path

from training.run.names import list_snapshots, snapshot_name
from training.run.stats_file import read_ticks
from training.run.status import read_status

TICKS_PER_SNAPSHOT = 4


def scored_snapshots(run_dir: Path) -> list[Path]:
    """List the snapshots of a run that are scored, in order.

    Left out are that of the first tick, which shows noise, and those that the run left when it was stopped: when that
    happens is chance.
    """
    planned = _planned_names(run_dir)
    return [path for kimg, path in list_snapshots(run_dir) if kimg > 0 and (planned is None or path.name in planned)]


def _planned_names(run_dir: Path) -> set[str] | None:
    """Return the names that snapshots can have at due ticks and at the end of a finished run; None without a record."""
    ticks = [(tick.mean("Progress/tick"), round(tick.kimg * 1000)) for tick in read_ticks(run_dir)]
    if not ticks:
        return None
    due = [nimg for number, nimg in ticks if number is not None and number % TICKS_PER_SNAPSHOT == 0]
    if read_status(run_dir).get("reason") == "finished":
        due.append(ticks[-1][1])
    return {snapshot_name(nimg, is_exact) for nimg in due for is_exact in (False, True)}
