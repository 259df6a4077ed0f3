"""Run folders: numbered names, who made them, and finding one again."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from pathlib import Path
from typing import Any

from dnnlib.atomic import write_atomic
from dnnlib.util import UserError

OPTIONS_FILE = "training_options.json"


def make_run_dir(outdir: Path, description: str) -> Path:
    """Make the next ``NNNNN-<description>``; runs that start at the same time get different folders.

    Raises:
        UserError: ``outdir`` cannot be written to.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            numbers = _numbers(outdir)
            number = max(numbers, default=-1) + 1
            run_dir = outdir / f"{number:05d}-{description}"
            with contextlib.suppress(FileExistsError):
                run_dir.mkdir()
                if _numbers(outdir).count(number) == 1:
                    return run_dir
                run_dir.rmdir()  # at the same moment another run has taken the number under another description
            time.sleep(random.random() / 10)
    except OSError as error:
        raise UserError(
            f"--outdir={outdir}: {error.strerror or error}; choose a folder that can be written to"
        ) from error


def _numbers(outdir: Path) -> list[int]:
    """Numbers of the runs in ``outdir``."""
    return [int(match[0]) for path in outdir.iterdir() if path.is_dir() and (match := re.match(r"\d+", path.name))]


def find_run_dir(run: str, outdir: Path | None) -> Path:
    """Find the run that ``--continue`` names: a run folder, or 'latest' for the newest one of ``outdir``.

    Raises:
        UserError: There is no such run.
    """
    if run != "latest":
        if not (Path(run) / OPTIONS_FILE).is_file():
            raise UserError(f"--continue={run}: no run folder, {OPTIONS_FILE} is missing; give a folder or 'latest'")
        return Path(run)
    if outdir is None:
        raise UserError("--continue=latest needs --outdir, the folder that holds the runs")
    runs = sorted(path.parent for path in outdir.glob(f"*/{OPTIONS_FILE}")) if outdir.is_dir() else []
    if not runs:
        raise UserError(f"--continue=latest: no run in {outdir}; start one without --continue")
    return runs[-1]


def write_options(run_dir: Path, kwargs: dict[str, Any]) -> None:
    """Record the arguments of the training loop."""
    write_atomic(run_dir / OPTIONS_FILE, (json.dumps(kwargs, indent=2) + "\n").encode())


def read_options(run_dir: Path) -> dict[str, Any]:
    """Read what `write_options` wrote.

    Raises:
        UserError: The file is damaged, or of StyleGAN2-ADA's own ``train.py``, whose runs cannot be continued.
    """
    path = run_dir / OPTIONS_FILE
    try:
        kwargs: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}; it must be the one that train.py wrote") from error
    if not isinstance(kwargs, dict) or "run_dir" in kwargs:
        raise UserError(f"{path} is not of this train.py; start a new run with --resume=<snapshot.pkl> instead")
    return kwargs
