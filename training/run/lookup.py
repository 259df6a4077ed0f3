"""Networks and runs by what users call them: a file, a URL, a run folder, the latest run, a shipped generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.os_errors import path_fault
from dnnlib.urls import is_url
from training.checkpoint_names import checkpoint_nimg
from training.run.folder import is_run, runs_by_age
from training.run.names import snapshot_kimg
from training.run.stats_file import STATS_FILE

LATEST = "latest"
RUNS_FOLDER = "runs"
"""Folder in which 'latest' looks."""
SHIPPED = {"scenes32": Path(__file__).parents[1] / "snapshots/scenes32"}
"""Generators that come with this project, by name; each folder holds weights, settings and a card."""


def find_network(network: str, flag: str = "--network") -> str:
    """Return the path of the networks that a flag names.

    Args:
        network: A run folder, which stands for its newest networks; a folder of runs, for those of the newest run that
            has any; 'latest', for those in the folder 'runs'; or the name of a generator in `SHIPPED`, unless there is
            such a file. Anything else is returned as it is.
        flag: The flag, for the error.

    Raises:
        UserError: None have been saved yet.
    """
    path = Path(network)
    if network in SHIPPED and not path.exists():
        return str(SHIPPED[network])
    if network == LATEST and not path.exists():
        return _newest_of_runs(Path(RUNS_FOLDER), f"{flag}={LATEST}")
    if not path.is_dir():
        return network
    if is_run(path):
        found = newest_networks(path)
        if found is None:
            raise UserError(f"{flag}={network}: this run has saved neither a snapshot nor a checkpoint yet")
        return str(found)
    is_of_runs = any(is_run(each) for each in runs_by_age(path))
    return _newest_of_runs(path, f"{flag}={network}") if is_of_runs else network


def require_network(network: str, flag: str, names: Sequence[str] = (LATEST, *SHIPPED)) -> None:
    """Refuse what names nothing; a URL is not looked up.

    Args:
        network: The value of a flag that `find_network` takes.
        flag: The flag.
        names: What it may be besides a path or a URL.

    Raises:
        UserError: There is no such file or folder, and no such name; or it cannot be read.
    """
    path = Path(network)
    if not network:
        raise UserError(f"{flag} is empty: give a snapshot (.pkl), a run folder, or an https URL")
    if is_url(network, allow_file_urls=True):
        return
    if fault := path_fault(network):
        raise UserError(f"{flag}={fault}")
    if network in (LATEST, *SHIPPED, *names) or path.exists():
        return
    is_like_path = path.name != network or path.suffix
    known = "" if is_like_path else f" (known names: {', '.join(names)})"
    raise UserError(
        f"{flag}={network}: no such file or folder{known}; give a snapshot (.pkl), a run folder, or an https URL"
    )


def _newest_of_runs(folder: Path, shown: str) -> str:
    runs = [each for each in runs_by_age(folder) if is_run(each)] if folder.is_dir() else []
    found = next(filter(None, map(newest_networks, reversed(runs))), None)
    if found is None:
        raise UserError(f"{shown}: no run in {folder.absolute()} has saved networks; give a snapshot or a run folder")
    return str(found)


def find_reported_run(name: Path) -> Path:
    """Return the run folder that ``report.py`` is given.

    Args:
        name: A run folder; a folder of runs, which stands for the newest that has finished a tick; or 'latest', for
            that in the folder 'runs'. Anything else is returned as it is.

    Raises:
        UserError: No run in 'runs' has finished a tick.
    """
    is_latest = str(name) == LATEST and not name.exists()
    folder = Path(RUNS_FOLDER) if is_latest else name
    if not folder.is_dir() or (folder / STATS_FILE).exists():
        runs = []
    else:
        runs = [each for each in runs_by_age(folder) if (each / STATS_FILE).is_file()]
    if is_latest and not runs:
        raise UserError(f"{LATEST}: no run in {folder.absolute()} has finished a tick; give a run folder")
    return runs[-1] if runs else name


def newest_networks(run_dir: Path) -> Path | None:
    """Return the newest snapshot of a run, or its newest checkpoint if that has more kimg; None if there is neither."""
    # Compared by whole kimg, as the name of a snapshot may have no more digits; of equals a snapshot is preferred.
    found: dict[tuple[int, bool, float], Path] = {}
    for path in run_dir.iterdir():
        if (kimg := snapshot_kimg(path.name)) is not None:
            found[int(kimg), True, kimg] = path
        elif (nimg := checkpoint_nimg(path.name)) is not None:
            found[nimg // 1000, False, nimg] = path
    return found[max(found)] if found else None


def is_checkpoint(network: str) -> bool:
    """Return whether a path is that of a checkpoint, which `training.snapshots.checkpoint_networks` reads."""
    return checkpoint_nimg(Path(network).name) is not None


def generate_command(network: Path, has_labels: bool) -> str:
    """Return the command that draws a grid of images with the networks of a run."""
    label = ["--class=0"] if has_labels else []
    return how_to_run("generate.py", f"--network={network}", "--seeds=0-35", *label, "--grid", "--outdir=out")
