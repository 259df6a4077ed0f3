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
import json
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
from dnnlib.util import UserError

OPTIONS_FILE = "training_options.json"
STATUS_FILE = "exit_status.json"
"""Says how far the run is and whether it is running, stopped or finished."""
ENDED = ("stopped", "finished")
"""Values of its "reason" once the training loop has returned."""
LOCK_FILE = ".lock"
MAX_OPTIONS_BYTES = 1 << 20


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
        raise UserError(
            f"--outdir={outdir}: {error.strerror or error}; choose a folder that can be written to"
        ) from error


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
        if not (Path(run) / OPTIONS_FILE).is_file():
            raise UserError(f"--continue={run}: not a run folder, {OPTIONS_FILE} is missing; give a folder or 'latest'")
        return Path(run)
    if outdir is None:
        raise UserError("--continue=latest needs --outdir, the folder that holds the runs")
    runs = [] if not outdir.is_dir() else [path for path in _runs_by_age(outdir) if (path / OPTIONS_FILE).is_file()]
    if not runs:
        raise UserError(f"--continue=latest: no run in {outdir}; start one without --continue")
    return next((path for path in reversed(runs) if has_progress(path)), runs[-1])


def _runs_by_age(outdir: Path) -> list[Path]:
    """Order runs by number; of several with one number, copies of a run come before the run itself."""

    def key(numbered: tuple[int, Path]) -> tuple[int, bool, int]:
        number, path = numbered
        return number, read_status(path).get("name", path.name) == path.name, -len(path.name)

    return [path for _number, path in sorted(_numbered_folders(outdir), key=key)]


def has_progress(run_dir: Path) -> bool:
    """Tell whether a run has anything that starting it anew would destroy.

    The first tick ends after one iteration; until its checkpoint is written nothing is lost by starting again.
    """
    if any(run_dir.glob("training-state-*.safetensors*")) or read_status(run_dir).get("reason") in ENDED:
        return True
    try:
        with open(run_dir / "stats.jsonl", "rb") as file:
            return sum(1 for _line in zip(file, range(2), strict=False)) > 1
    except FileNotFoundError:
        return False


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
    snapshot = max(run_dir.glob("network-snapshot-*.pkl"), default=None)
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
        where = f" (process {status['pid']} on {status['host']})" if "pid" in status else ""
        raise UserError(f"{run_dir} is being trained by another process{where}; stop that one first") from None
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written to: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()  # the file stays: removing it could take it away from a process that has just opened it


def is_locked(run_dir: Path) -> bool:
    """Tell whether another process is training in ``run_dir``."""
    if not (run_dir / LOCK_FILE).exists():
        return False
    try:
        with filelock.FileLock(run_dir / LOCK_FILE).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return False


# Files


def write_status(run_dir: Path, reason: str, kimg: float, total_kimg: float, **details: Any) -> None:
    """Record that a run is running or how it ended, and how far it is.

    Args:
        run_dir: Run folder.
        reason: 'running'; 'stopped' or 'finished'; 'interrupted' or 'unsaved', if there is no checkpoint of the end.
        kimg: Thousands of images seen.
        total_kimg: Length of the run.
        **details: JSON values to store with them.
    """
    status = {"reason": reason, "kimg": kimg, "total_kimg": total_kimg, "name": run_dir.absolute().name, **details}
    if reason == "running":
        status.update(host=socket.gethostname(), pid=os.getpid())
    write_atomic(run_dir / STATUS_FILE, json.dumps(status).encode())


def read_status(run_dir: Path) -> dict[str, Any]:
    """Read what `write_status` wrote; empty if there is nothing readable."""
    try:
        status = json.loads(_read_small_file(run_dir / STATUS_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


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
        kwargs: dict[str, Any] = json.loads(_read_small_file(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise UserError(f"{path} cannot be read ({reason}); it must be the one that train.py wrote") from error
    if not isinstance(kwargs, dict) or "run_dir" in kwargs:
        raise UserError(f"{path} is not of this train.py; start a new run with --resume=<snapshot.pkl> instead")
    return kwargs


def _read_small_file(path: Path) -> bytes:
    if path.stat().st_size > MAX_OPTIONS_BYTES:
        raise ValueError(f"larger than {MAX_OPTIONS_BYTES >> 20} MiB")
    return path.read_bytes()
