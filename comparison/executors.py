"""Where the processes of runs are started: on this machine, or on a cluster through submitit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from comparison.jobs import LOG
from dnnlib.commands import how_to_install
from dnnlib.errors import UserError


class Handle(Protocol):
    """A process that was started."""

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs or waits."""

    def stop(self) -> None:
        """Ask it to save what it must and to end."""


class Executor(Protocol):
    """Starts processes."""

    def start(self, command: list[str], folder: Path) -> Handle:
        """Start a command that works on a folder."""


class LocalExecutor:
    """Processes on this machine.

    Args:
        num_threads: Threads of each.
    """

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads

    def start(self, command: list[str], folder: Path) -> Handle:
        """Start a command whose output goes to the log in the folder; it ends when this process is gone."""
        # Not MKL_NUM_THREADS: torch prefers it to the OMP_NUM_THREADS of the user.
        env = {"OMP_NUM_THREADS": str(self._num_threads), **os.environ}
        with open(folder / LOG, "ab") as log:
            process = subprocess.Popen(
                [*command, f"--parent={os.getpid()}"],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
            )
        return _LocalHandle(process)


class _LocalHandle:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


def num_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SubmititExecutor:
    """Jobs of a cluster.

    Args:
        folder: For submitit's own files.
        cluster: ``slurm``, or ``local`` for processes on this machine.
        parameters: Of submitit, such as ``timeout_min`` and ``slurm_partition``.

    Raises:
        UserError: submitit is not installed, finds no cluster, or does not know a parameter.
    """

    def __init__(self, folder: Path, cluster: str, parameters: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(f"--slurm needs the package submitit: {how_to_install('slurm')}") from None
        self._run_command = submitit.helpers.CommandFunction
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**{"name": "compare", "timeout_min": 24 * 60, **parameters})
        except (RuntimeError, NameError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"--slurm={cluster}: {ascii(str(error)[:300])[1:-1]}") from error

    def start(self, command: list[str], folder: Path) -> Handle:
        """Submit a command."""
        shell = 'exec "$@" >>"$0" 2>&1'  # so that the log is where it is for local processes
        wrapped = ["sh", "-c", shell, str(folder / LOG), *command]
        return _SubmititHandle(self._executor.submit(self._run_command(wrapped, verbose=False)))


class _SubmititHandle:
    def __init__(self, job: Any) -> None:
        self._job = job

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        return 0 if self._job.state in ("FINISHED", "DONE", "COMPLETED") and self._job.exception() is None else 1

    def stop(self) -> None:
        if not self._job.done():
            self._job.cancel()


def choose_executor(outdir: Path, cluster: str | None, parameters: Sequence[str], num_at_once: int) -> Executor:
    """Return what ``--slurm`` asks for.

    Args:
        outdir: Folder of the comparison.
        cluster: As for `SubmititExecutor`; None for this machine.
        parameters: Those of submitit, of the form name=value.
        num_at_once: Number of processes at a time on this machine, which share its cores.

    Raises:
        UserError: As for `SubmititExecutor`.
    """
    if cluster is None:
        return LocalExecutor(max(num_cores() // num_at_once, 1))
    values = {name: int(value) if value.isdecimal() else value for name, value in map(_split, parameters)}
    return SubmititExecutor(outdir / "slurm", cluster, values)


def _split(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise UserError(f"--slurm-extra: {text[:100]!a} is not of the form name=value")
    return name, value


def job_command(script: Path, folder: Path) -> list[str]:
    """Return the command that works on the folder of a run."""
    return [sys.executable, str(script), f"--run-job={folder}"]
