"""Run folders: numbered names, what state a run is in, the lock of a running one, and finding a run again.

A run is in one of five states, which `find_state` reads off its folder:

    new       it has made no progress that could be lost
    running   another process holds its lock
    stopped   it has a checkpoint to continue from
    finished  it has reached its length
    damaged   it has made progress, but no intact checkpoint is left
"""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import math
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from dnnlib.atomic import write_atomic
from dnnlib.jsonl import read_lines, statistic
from dnnlib.util import UserError
from training.run.names import checkpoint_nimg

OPTIONS_FILE = "training_options.json"
STATUS_FILE = "exit_status.json"
"""Says how far the run is and whether it is running, stopped or finished."""
SAVED = ("stopped", "finished")
"""Values of its "reason" for runs that ended with a checkpoint."""
ENDED = (*SAVED, "interrupted", "unsaved", "diverged")
"""Values of its "reason" for all runs that have ended."""
LOCK_FILE = ".lock"
MAX_OPTIONS_BYTES = 1 << 20
MAX_DIGITS = 100
"""Of a whole number in these files, which must fit into a float."""
_OF_FIRST_TICK = re.compile(r"network-snapshot-000000(\.pkl)?")
"""Snapshots that a run may have left before its first checkpoint."""
_STATUS_TYPES: dict[str, type | tuple[type, ...]] = {
    "reason": str,
    "name": str,
    "host": str,
    "pid": int,
    "kimg": (int, float),
    "total_kimg": (int, float),
}


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
            with contextlib.suppress(FileExistsError):
                run_dir.mkdir()
                if [taken for taken, _path in _numbered_folders(outdir)].count(number) == 1:
                    return run_dir
                run_dir.rmdir()  # another run has taken the number at the same moment, under another description
            time.sleep(random.random() / 10)
    except OSError as error:
        is_long = error.errno == errno.ENAMETOOLONG
        advice = "shorten --desc or the name of --data" if is_long else "choose a folder that can be written to"
        raise UserError(f"--outdir={outdir}: {error.strerror or error}; {advice}") from error


def _numbered_folders(outdir: Path) -> list[tuple[int, Path]]:
    """List the folders of ``outdir`` whose names begin with a number."""
    return [(int(match[0]), path) for path in outdir.iterdir() if path.is_dir() and (match := _number(path))]


def _number(path: Path) -> re.Match[str] | None:
    return re.match(r"\d+", path.name)


def find_run_dir(run: str, outdir: Path | None) -> Path:
    """Find the run that ``--continue`` names: a run folder, or 'latest' for the last one in ``outdir`` that trained.

    Raises:
        UserError: There is no such run.
    """
    if run != "latest":
        if not is_run(Path(run)):
            raise UserError(f"--continue={run}: not a run folder, {OPTIONS_FILE} is missing; give a folder or 'latest'")
        return Path(run)
    if outdir is None:
        raise UserError("--continue=latest needs --outdir, the folder that holds the runs")
    runs = [] if not outdir.is_dir() else [path for path in runs_by_age(outdir) if is_run(path)]
    if not runs:
        raise UserError(f"--continue=latest: no run in {outdir}; start one without --continue")
    return next((path for path in reversed(runs) if has_progress(path)), runs[-1])


def is_run(path: Path) -> bool:
    """Tell whether a folder is that of a run."""
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
        is_written_in_place = path.name in (LOCK_FILE, "log.txt", "stats.jsonl") or path.name.startswith("metric-")
        if path.is_symlink() and is_written_in_place:
            raise UserError(f"{run_dir}: {path.name[:100]!a} is a link, which would be written through; delete it")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{run_dir}: {path.name[:100]!a} is not a regular file; delete it")
        # What cannot be read now would be taken for damaged.
        if path.name.startswith("training-state-") and not os.access(path, os.R_OK):
            raise UserError(f"{run_dir}: {path.name[:100]!a} cannot be read by this user; change its permissions")


def has_progress(run_dir: Path) -> bool:
    """Tell whether a run has anything that starting it anew would destroy.

    The first tick ends after one iteration; until its checkpoint is written nothing is lost by starting again.
    """
    if any(run_dir.glob("training-state-*.safetensors*")) or read_status(run_dir).get("reason") in SAVED:
        return True
    if any(not _OF_FIRST_TICK.fullmatch(path.name) for path in run_dir.glob("network-snapshot-*")):
        return True
    if not (run_dir / "stats.jsonl").is_file():
        return False
    with open(run_dir / "stats.jsonl", "rb") as file:
        return sum(1 for _line in zip(file, range(2), strict=False)) > 1


def find_state(run_dir: Path) -> RunState:
    """Determine the state of a run, except that a checkpoint's content is not looked at."""
    if is_locked(run_dir):
        return RunState.RUNNING
    if read_status(run_dir).get("reason") == "finished":
        return RunState.FINISHED
    if any(run_dir.glob("training-state-*.safetensors")):
        return RunState.STOPPED
    return RunState.DAMAGED if has_progress(run_dir) else RunState.NEW


def refuse_to_start_over(run_dir: Path) -> None:
    """Make sure that a run without a checkpoint has not trained: continuing it would overwrite what it made.

    Raises:
        UserError: It has.
    """
    if not has_progress(run_dir):
        return
    snapshot = max(run_dir.glob("network-snapshot-[0-9]*.pkl"), default=None)
    way_out = f"a new run with --resume={snapshot}" if snapshot else "a new run"
    raise UserError(
        f"{run_dir} has trained, but has no intact checkpoint (training-state-*.safetensors with its .sha256) to "
        f"continue from, and starting over would overwrite it: restore the checkpoint, or start {way_out}"
    )


# The lock


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Keep other processes from training in ``run_dir``; the system releases the lock if this process dies.

    Raises:
        UserError: Another process holds it, or it cannot be made.
    """
    lock = filelock.FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        status = read_status(run_dir)
        is_known = "pid" in status and "host" in status
        where = f" (process {status['pid']} on {ascii(status['host'][:100])[1:-1]})" if is_known else ""
        raise UserError(f"{run_dir} is being trained by another process{where}; stop that one first") from None
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written to: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()  # the file stays: removing it could take it away from a process that has just opened it


def is_locked(run_dir: Path) -> bool | None:
    """Tell whether another process is training in ``run_dir``; None if the lock cannot be tried.

    Trying it takes permission to write, which the folder of another user may not give.
    """
    if not (run_dir / LOCK_FILE).exists():
        return False
    try:
        with filelock.FileLock(run_dir / LOCK_FILE).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return None


# Files


def write_status(run_dir: Path, reason: str, kimg: float, total_kimg: float, **details: Any) -> None:
    """Record that a run is running or how it ended, and how far it is.

    Args:
        run_dir: Run folder.
        reason: 'running'; 'stopped' or 'finished'; 'interrupted' or 'unsaved', if there is no checkpoint of the end;
            'diverged', if that is why it was stopped.
        kimg: Thousands of images seen.
        total_kimg: Length of the run.
        **details: JSON values to store with them.
    """
    status = {"reason": reason, "kimg": kimg, "total_kimg": total_kimg, "name": run_dir.absolute().name, **details}
    if reason == "running":
        status.update(host=socket.gethostname(), pid=os.getpid())
    write_atomic(run_dir / STATUS_FILE, json.dumps(status).encode())


def read_status(run_dir: Path) -> dict[str, Any]:
    """Read what `write_status` wrote, values of other types left out; empty if there is nothing readable."""
    try:
        status = _parse(read_small_file(run_dir / STATUS_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(status, dict):
        return {}
    return {name: value for name, value in status.items() if isinstance(value, _STATUS_TYPES.get(name, object))}


def saved_nimg(run_dir: Path) -> int:
    """Return the images that a run had seen at its newest checkpoint; 0 without one."""
    return max(filter(None, (checkpoint_nimg(path.name) for path in run_dir.iterdir())), default=0)


def read_spent_sec(run_dir: Path) -> float:
    """Return the seconds that a run had trained, over all its parts, at the end of the last tick that it has saved."""
    kimg_to_keep = saved_nimg(run_dir) / 1000
    spent_sec = 0.0
    for _number, line in read_lines(run_dir / "stats.jsonl"):
        kimg, sec = (statistic(line, name) or 0.0 for name in ("Progress/kimg", "Timing/total_sec"))
        if kimg <= kimg_to_keep:
            spent_sec = max(spent_sec, sec)
    return spent_sec


def write_options(run_dir: Path, kwargs: dict[str, Any]) -> None:
    """Record the arguments of the training loop."""
    write_atomic(run_dir / OPTIONS_FILE, (json.dumps(kwargs, indent=2, allow_nan=False) + "\n").encode())


def read_options(run_dir: Path) -> dict[str, Any]:
    """Read what `write_options` wrote.

    Raises:
        UserError: The file is damaged, or was written by StyleGAN2-ADA's own ``train.py``, whose runs cannot be
            continued.
    """
    path = run_dir / OPTIONS_FILE
    try:
        kwargs: dict[str, Any] = _parse(read_small_file(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else ascii(str(error)[:100])[1:-1]
        raise UserError(f"{path} cannot be read ({reason}); it must be the one that train.py wrote") from error
    if not isinstance(kwargs, dict) or "run_dir" in kwargs:
        raise UserError(f"{path} is not of this train.py; start a new run with --resume=<snapshot.pkl> instead")
    return kwargs


def _parse(text: bytes) -> Any:
    """Parse JSON of finite numbers, which alone can be compared."""

    def refuse(name: str) -> Any:
        raise ValueError(f"it contains {name}")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits[:20])

    def short(digits: str) -> int:
        return int(digits) if len(digits) <= MAX_DIGITS else refuse(f"a number of {len(digits)} digits")

    return json.loads(text, parse_constant=refuse, parse_float=finite, parse_int=short)


def read_small_file(path: Path, max_bytes: int = MAX_OPTIONS_BYTES) -> bytes:
    """Read a file of a run folder, which may come from elsewhere: wait for no pipe, fill no memory.

    Raises:
        OSError: It is missing, is no regular file, or cannot be read.
        ValueError: It is larger than ``max_bytes``.
    """
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"larger than {max_bytes >> 20} MiB")
    return path.read_bytes()
