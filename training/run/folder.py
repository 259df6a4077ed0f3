"""Run folders: their numbered names, finding one again, and the state that its run is in.

A run is in one of five states, which `find_state` reads off its folder:

    new       it has made no progress that could be lost
    running   another process holds its lock
    stopped   it has a checkpoint to continue from
    finished  it has reached its length
    damaged   it has made progress, but no intact checkpoint is left
"""

from __future__ import annotations

import enum
import errno
import os
import random
import re
import time
from contextlib import suppress
from pathlib import Path

from dnnlib.errors import UserError
from dnnlib.os_errors import path_fault
from training.checkpoint_names import PREFIX, has_checkpoint, has_had_checkpoint, saved_nimg
from training.run.lock import LOCK_FILE, is_locked
from training.run.names import GRIDS, INITIAL_GRID, SNAPSHOT_PREFIX, grid_file_name, newest_snapshot, snapshot_name
from training.run.options_file import OPTIONS_FILE
from training.run.stats_file import STATS_FILE, read_ticks
from training.run.status import SAVED, read_status

_FIRST_OUTPUTS = {
    *(snapshot_name(0), snapshot_name(0).removesuffix(".pkl"), INITIAL_GRID),
    *(grid_file_name(0, is_exact=False, is_unaveraged=is_unaveraged) for is_unaveraged in (False, True)),
}
"""What a run may have left before its first checkpoint: the snapshot of its first tick, also as a folder, and grids."""


class RunState(enum.Enum):
    """What can be done with a run; see the module's docstring."""

    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"
    DAMAGED = "damaged"


def make_run_dir(outdir: Path, description: str) -> Path:
    """Create the next ``NNNNN-<description>``; runs that start at the same time get different numbers.

    Raises:
        UserError: ``outdir`` cannot be written to.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            numbers = [number for number, _path in _numbered_folders(outdir)]
            number = max(numbers, default=-1) + 1
            run_dir = outdir / f"{number:05d}-{description}"
            with suppress(FileExistsError):
                run_dir.mkdir()
                if [taken for taken, _path in _numbered_folders(outdir)].count(number) == 1:
                    return run_dir
                run_dir.rmdir()  # another run has taken the number at the same moment, under another description
            time.sleep(random.random() / 10)
    except OSError as error:
        is_long = error.errno == errno.ENAMETOOLONG
        advice = "shorten --desc or the name of --data" if is_long else "choose a folder that can be written to"
        raise UserError(f"--outdir={outdir}: {error.strerror or error}; {advice}") from error


def existing_parent(path: Path) -> Path:
    """Return the path itself if there is such a file or folder, else the nearest of the folders above it."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _numbered_folders(outdir: Path) -> list[tuple[int, Path]]:
    """List the folders of ``outdir`` whose names begin with a number."""
    folders = (path for path in outdir.iterdir() if path.is_dir())
    return [(int(match[0]), path) for path in folders if (match := re.match(r"\d+", path.name))]


def find_run_dir(run: str, outdir: Path | None) -> Path:
    """Find the run that ``--continue`` names: a run folder, or 'latest' for the last one in ``outdir`` that trained.

    Raises:
        UserError: There is no such run.
    """
    if run != "latest":
        if fault := path_fault(run):
            raise UserError(f"--continue={fault}")
        if not run or not is_run(Path(run)):
            raise UserError(f"--continue={run}: {_describe_no_run(run)}")
        return Path(run)
    if outdir is None:
        raise UserError("--continue=latest needs --outdir, the folder that holds the runs")
    runs = [] if not outdir.is_dir() else [path for path in runs_by_age(outdir) if is_run(path)]
    if not runs:
        raise UserError(f"--continue=latest: no run in {outdir}; start one without --continue")
    return next((path for path in reversed(runs) if has_progress(path)), runs[-1])


def _describe_no_run(name: str) -> str:
    """Say why a name is not that of a run folder, and what may have been meant."""
    if not name:
        return "it is empty; give a run folder, or 'latest' with --outdir"
    path = Path(name)
    if is_run(path.parent) and path.exists():
        return f"it is inside a run folder; give that folder, {path.parent}"
    if path.is_dir() and any(map(is_run, runs_by_age(path))):
        return f"a folder of runs; give one of them, or --continue=latest --outdir={name}"
    return f"not a run folder, {OPTIONS_FILE} is missing; give a folder or 'latest'"


def is_run(path: Path) -> bool:
    """Return whether a folder is that of a run."""
    try:
        return (path / OPTIONS_FILE).is_file()
    except PermissionError:  # another user's
        return False


def runs_by_age(outdir: Path) -> list[Path]:
    """List the numbered folders in ``outdir`` by number; of several with one, copies of a run come before the run."""

    def key(numbered: tuple[int, Path]) -> tuple[int, bool, int]:
        number, path = numbered
        return number, read_status(path).get("name", path.name) == path.name, -len(path.name)

    return [path for _number, path in sorted(_numbered_folders(outdir), key=key)]


def check_files(run_dir: Path) -> None:
    """Make sure that continuing a run writes to its own files only, can read its checkpoints, waits for no pipe.

    Files that are replaced as a whole, such as checkpoints, may be links.

    Raises:
        UserError: A file that is written in place is a link, or something is neither a file nor a folder.
    """
    for path in run_dir.iterdir():
        is_written_in_place = path.name in (LOCK_FILE, "log.txt", STATS_FILE) or path.name.startswith("metric-")
        if path.is_symlink() and is_written_in_place:
            raise UserError(f"{run_dir}: {path.name[:100]!a} is a link, which would be written through; delete it")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{run_dir}: {path.name[:100]!a} is not a regular file; delete it")
        # What cannot be read now would be taken for damaged.
        if path.name.startswith(PREFIX) and not os.access(path, os.R_OK):
            raise UserError(f"{run_dir}: {path.name[:100]!a} cannot be read by this user; change its permissions")


def has_progress(run_dir: Path) -> bool:
    """Return whether a run has anything that starting it anew would destroy.

    The first tick ends after one iteration; until its checkpoint is written nothing is lost by starting again.
    """
    if has_had_checkpoint(run_dir) or read_status(run_dir).get("reason") in SAVED:
        return True
    outputs = [*run_dir.glob(f"{SNAPSHOT_PREFIX}*"), *run_dir.glob(GRIDS)]
    if any(path.name not in _FIRST_OUTPUTS for path in outputs):
        return True
    if not (run_dir / STATS_FILE).is_file():
        return False
    with open(run_dir / STATS_FILE, "rb") as file:
        return sum(1 for _line in zip(file, range(2), strict=False)) > 1


def find_state(run_dir: Path) -> RunState:
    """Determine the state of a run, without reading the content of its checkpoints."""
    if is_locked(run_dir):
        return RunState.RUNNING
    if read_status(run_dir).get("reason") == "finished":
        return RunState.FINISHED
    if has_checkpoint(run_dir):
        return RunState.STOPPED
    return RunState.DAMAGED if has_progress(run_dir) else RunState.NEW


def refuse_to_start_over(run_dir: Path) -> None:
    """Refuse to continue a run that has trained but has no checkpoint: it would start over and overwrite its files.

    Raises:
        UserError: The run has trained.
    """
    if not has_progress(run_dir):
        return
    snapshot = newest_snapshot(run_dir)
    way_out = f"a new run with --resume={snapshot}" if snapshot else "a new run"
    raise UserError(
        f"{run_dir} has trained, but has no intact checkpoint (training-state-*.safetensors with its .sha256) to "
        f"continue from, and starting over would overwrite it: restore the checkpoint, or start {way_out}"
    )


def read_spent_sec(run_dir: Path) -> float:
    """Return the seconds that a run had trained, over all its sessions, up to its newest checkpoint."""
    kimg_to_keep = saved_nimg(run_dir) / 1000
    ticks = (tick for tick in read_ticks(run_dir) if tick.kimg <= kimg_to_keep)
    return max((tick.mean("Timing/total_sec") or 0.0 for tick in ticks), default=0.0)
