"""Works through the runs of a comparison, some at once, and reports their progress."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from comparison.executors import Executor, Handle
from comparison.jobs import LOG, Job, find_run, is_done, trained_kimg
from comparison.snapshots import scored_snapshots
from dnnlib.errors import UserError
from dnnlib.formatting import format_number, format_time, plural
from dnnlib.signals import JOB_SIGNALS, available, signal_handlers
from metrics.results import read_snapshot_results, results_file

POLL_SEC = 0.5
REPORT_SEC = 10.0


class InterruptedRunsError(Exception):
    """The runs were stopped, and the same command goes on with them."""


def run_all(
    jobs: dict[Path, Job],
    executor: Executor,
    command: Callable[[Path], list[str]],
    num_at_once: int,
    redraw: Callable[[dict[Path, str]], object],
) -> dict[Path, str]:
    """Do what is missing in the folders of runs.

    Args:
        jobs: The runs by folder.
        executor: Starts processes.
        command: What works on a folder.
        num_at_once: Number of processes.
        redraw: Writes the page; called with the failures so far whenever a run has ended.

    Returns:
        For each run that failed, why.

    Raises:
        InterruptedRunsError: By Ctrl-C or a signal of `dnnlib.signals.JOB_SIGNALS`, after all processes have ended.
    """
    waiting = [folder for folder, job in jobs.items() if not is_done(folder, job)]
    num_done, failures = len(jobs) - len(waiting), {}
    click.echo(f"{plural(len(jobs), 'run')}, {num_done} of them done")
    running: dict[Path, Handle] = {}
    log_begin: dict[Path, int] = {}
    begin_sec = last_sec = time.monotonic()
    with _stop_on_signals() as stop:
        while (waiting or running) and not stop:
            while waiting and len(running) < num_at_once:
                folder = waiting.pop(0)
                log_begin[folder] = _num_bytes(folder / LOG)
                running[folder] = executor.start(command(folder), folder)
                click.echo(f"{_name(folder)}: started, output in {folder / LOG}")
            time.sleep(POLL_SEC)
            for folder, status in _take_ended(running):
                num_done += status == 0
                if status != 0:
                    failures[folder] = _reason(folder, status, log_begin[folder])
                click.echo(f"{_name(folder)}: {'done' if status == 0 else f'FAILED: {failures[folder]}'}")
                _try_to(redraw, failures)
            if time.monotonic() - last_sec >= REPORT_SEC:
                last_sec = time.monotonic()
                elapsed = format_time(last_sec - begin_sec)
                click.echo(f"{elapsed}: {num_done} of {len(jobs)} done; {_describe_all(running, jobs)}")
        if stop:
            _stop(running)
            raise InterruptedRunsError
    return failures


def _take_ended(running: dict[Path, Handle]) -> Iterator[tuple[Path, int]]:
    """Take out the processes that have ended, with their exit statuses."""
    for folder, status in [(folder, handle.poll()) for folder, handle in running.items()]:
        if status is not None:
            del running[folder]
            yield folder, status


def _try_to(redraw: Callable[[dict[Path, str]], object], failures: dict[Path, str]) -> None:
    """Write the page, if that is possible now: the runs must go on."""
    try:
        redraw(failures)
    except (UserError, OSError) as error:
        click.echo(f"The page was not written: {error}")


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Collect the signals that ask for an end within the context; after the first, Ctrl-C is not waited for."""
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    with signal_handlers(dict.fromkeys(available("SIGINT", *JOB_SIGNALS), note)):
        yield received


def _stop(running: dict[Path, Handle]) -> None:
    for handle in running.values():
        handle.stop()
    last_sec = 0.0
    while left := [folder for folder, handle in running.items() if handle.poll() is None]:
        if time.monotonic() - last_sec >= REPORT_SEC:
            last_sec = time.monotonic()
            click.echo(f"Stopping; waiting for checkpoints of {', '.join(map(_name, left))}")
        time.sleep(POLL_SEC / 5)


def _name(folder: Path) -> str:
    return f"{folder.parent.name} {folder.name}"


def _describe_all(folders: Iterable[Path], jobs: dict[Path, Job]) -> str:
    return ", ".join(f"{_name(folder)} {describe(folder, jobs[folder])}" for folder in folders)


def describe(folder: Path, job: Job) -> str:
    """Say in a few words how far a run is."""
    run_dir = find_run(folder)
    if run_dir is None:
        return "starting"
    kimg = trained_kimg(run_dir)
    if kimg < job.kimg:
        return f"at {format_number(kimg)} of {job.kimg} kimg"
    known = [len(read_snapshot_results(results_file(run_dir, metric))) for metric in job.all_metrics]
    num_last = len(job.all_metrics) - len(job.metrics)
    return f"scored {sum(known)} of {len(scored_snapshots(run_dir)) * len(job.metrics) + num_last}"


def _num_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(folder: Path, status: int, begin: int) -> str:
    """Find out why a run failed: the last line of its output, which begins at a position in its log."""
    try:
        with open(folder / LOG, "rb") as file:
            file.seek(max(_num_bytes(folder / LOG) - 4096, begin))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.startswith("Error")), None)
    last = last or next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    return f"exit status {status}; {ascii(last[:300])[1:-1]}"
