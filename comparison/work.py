"""The process of one run: train it, score its snapshots, draw samples of the last one; what is done is skipped."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from comparison.jobs import (
    BOXES,
    SAMPLES,
    Job,
    find_run,
    is_trained,
    missing_scores,
    object_detector,
    read_job,
    remove_leftovers,
)
from comparison.picture_records import read_record, write_record
from comparison.snapshots import TICKS_PER_SNAPSHOT, scored_snapshots
from dnnlib.console import EXIT_STOPPED
from dnnlib.errors import UserError
from dnnlib.signals import JOB_SIGNALS, available, signal_handlers
from training.run.lock import is_locked
from training.run.options_file import read_options

REPOSITORY = Path(__file__).parents[1]
WAIT_SEC = 1.0
NUM_BOXED = 100
"""Generated images in which objects are looked for to be drawn."""

Script = Callable[[list[str]], None]
"""Runs a script with arguments, in this process."""

DEFAULT_FLAGS = ("--workers=1", "--state-minutes=5")
"""Flags of train.py; those of a method override them."""


class Stop(SystemExit):
    """Raised when this process is asked to stop; finished work is kept."""

    def __init__(self) -> None:
        super().__init__(EXIT_STOPPED)


class _Child:
    """The running train.py, if any; signals are passed on to it, so that it saves a checkpoint."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.is_stopping = False

    def stop(self, *_signal: Any) -> None:
        """Handle a signal."""
        self.is_stopping = True
        if self.process is None:
            raise Stop
        self.process.terminate()

    def run(self, command: list[str]) -> int:
        """Run a command to its end."""
        print(f"$ {shlex.join(command)}", flush=True)
        # A group of its own: a terminal would interrupt it as well, and a second signal means stopping at once.
        self.process = subprocess.Popen(command, start_new_session=True)
        if self.is_stopping:  # meanwhile
            self.process.terminate()
        status = self.process.wait()
        self.process = None
        if self.is_stopping:
            raise Stop
        return status


def run_job(folder: Path, score: Script, generate: Script, parent: int | None = None) -> None:
    """Do what is missing in the folder of a run.

    Args:
        folder: The folder, which holds a manifest.
        score: calc_metrics.py.
        generate: generate.py.
        parent: Stop when this process is gone, which is the parent of this one.

    Raises:
        UserError: Training failed, or the manifest is damaged.
        Stop: The process was asked to stop.
    """
    child = _Child()
    lock, reason = filelock.FileLock(folder / ".job.lock"), "the same run is being worked on by another process"
    with signal_handlers(dict.fromkeys(available("SIGINT", *JOB_SIGNALS), child.stop)):
        if parent is not None:
            threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
        with _waiting_for(lock, reason):
            _work(folder, child, score, generate)


def _work(folder: Path, child: _Child, score: Script, generate: Script) -> None:
    job = read_job(folder)
    run_dir = _train(folder, job, child)
    _score(folder, run_dir, job, score)
    _draw(folder, run_dir, job, generate)


def _stop_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WAIT_SEC)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _waiting_for(lock: filelock.BaseFileLock, reason: str) -> Iterator[None]:
    while True:
        try:
            lock.acquire(timeout=10 * WAIT_SEC)
            break
        except filelock.Timeout:
            print(f"Waiting: {reason}; if there is none, delete {lock.lock_file}", flush=True)
    try:
        yield
    finally:
        lock.release()


def train_command(folder: Path, run_dir: Path | None, job: Job) -> list[str]:
    """Return the command that begins or continues a run."""
    place = f"--outdir={folder}" if run_dir is None else f"--continue={run_dir}"
    return [
        *(sys.executable, str(REPOSITORY / "train.py"), place, f"--data={job.data}"),
        *(f"--kimg={job.kimg}", f"--tick={job.snapshot_kimg / TICKS_PER_SNAPSHOT:g}", f"--snap={TICKS_PER_SNAPSHOT}"),
        *(f"--seed={job.seed}", "--metrics=none", "--progress=plain", *DEFAULT_FLAGS, *job.flags),
    ]


def _train(folder: Path, job: Job, child: _Child) -> Path:
    while not is_trained(run_dir := find_run(folder), job.kimg):
        if run_dir is not None and is_locked(run_dir):
            print("Waiting: the run is being trained by another process", flush=True)
            time.sleep(10 * WAIT_SEC)
            continue
        remove_leftovers(folder)
        status = child.run(train_command(folder, run_dir, job))
        run_dir = find_run(folder)
        is_trained_elsewhere = run_dir is not None and is_locked(run_dir)  # by a process of an earlier command
        if not is_trained_elsewhere and (status != 0 or not is_trained(run_dir, job.kimg)):
            raise UserError(f"train.py ended with exit status {status}")
    assert run_dir is not None
    return run_dir


def _score(folder: Path, run_dir: Path, job: Job, score: Script) -> None:
    for path, metrics in missing_scores(run_dir, job):
        for metric in metrics:
            with _first_alone(folder.parents[1], metric):
                score([f"--network={path}", f"--metrics={metric}", f"--data={job.data}", *job.score_flags])


@contextlib.contextmanager
def _first_alone(root: Path, metric: str) -> Iterator[None]:
    """Let other runs wait while one of them computes a metric for the first time: it caches the real images' part."""
    marker = root / f".scored-{metric}"
    if marker.exists():
        yield
        return
    lock = filelock.FileLock(root / f".first-{metric}.lock")
    with _waiting_for(lock, f"another run computes {metric} of the real images"):
        yield
        marker.touch()


def _draw(folder: Path, run_dir: Path, job: Job, generate: Script) -> None:
    from comparison.samples import draw_samples

    paths = scored_snapshots(run_dir)
    if not paths:
        return
    draw_samples(paths[-1], folder / SAMPLES, job.score_flag("device") or "auto")
    detector = object_detector(run_dir, job)
    if detector is not None:
        given = {name: job.score_flag(name) for name in ("device", "detectors")}
        flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
        if read_options(run_dir)["training_set_kwargs"].get("use_labels"):
            flags.append("--class=0")
        _draw_boxes(paths[-1], folder / BOXES, detector, flags, generate)


def _draw_boxes(snapshot: Path, path: Path, detector: str, more_flags: list[str], generate: Script) -> None:
    """Draw figure 3 of the supplement; a record beside it says how it was drawn, also if nothing was found."""
    record = {"snapshot_pkl": snapshot.name, "seeds": [0, NUM_BOXED - 1], "object_detector": detector}
    if read_record(path) == record:
        return
    folder = path.with_suffix("")
    flags = [f"--seeds=0-{NUM_BOXED - 1}", "--boxes", f"--object-detector={detector}"]
    generate([f"--network={snapshot}", f"--outdir={folder}", *flags, *more_flags])
    path.unlink(missing_ok=True)
    if (folder / BOXES).is_file():
        (folder / BOXES).replace(path)
    shutil.rmtree(folder)
    write_record(path, record)
