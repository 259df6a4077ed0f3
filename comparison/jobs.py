"""One run of a comparison: its folder, the manifest in it, and what is still to be done there.

A folder holds ``job.json`` (the manifest), ``log.txt`` (what its process printed), ``samples.png``, and the folder that
``train.py`` made.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from comparison.paths import with_absolute_paths
from comparison.picture_records import record_file
from comparison.snapshots import scored_snapshots
from dnnlib.errors import UserError
from dnnlib.json_file import write_json
from metrics.results import read_results, read_snapshot_results, results_file, results_files
from training.run.folder import RunState, find_state
from training.run.options_file import OPTIONS_FILE
from training.run.stats_file import read_ticks
from training.run.status import read_status

MANIFEST = "job.json"
LOG = "log.txt"
SAMPLES = "samples.png"
BOXES = "boxes.png"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a run is, and how far it should go; JSON values only."""

    method: str
    seed: int
    flags: list[str]
    """Arguments of ``train.py`` that make the method."""
    dataset: dict[str, Any]
    """What must not change about the images: their name, number and resolution."""
    data: str
    """Where they are at present."""
    kimg: int
    snapshot_kimg: int
    metrics: list[str]
    score_flags: list[str]
    """Further arguments of ``calc_metrics.py``."""
    last_metrics: list[str] = field(default_factory=list)
    """Metrics of the last snapshot alone."""

    @property
    def all_metrics(self) -> list[str]:
        """Those of every snapshot, then the others."""
        return _united(self.metrics, self.last_metrics)

    def score_flag(self, name: str) -> str | None:
        """Return the value of a flag of ``calc_metrics.py``, given as ``--name=value`` or ``--name value``."""
        given = None
        for word, following in itertools.pairwise([*self.score_flags, ""]):
            flag, sign, value = word.partition("=")
            if flag == f"--{name}":
                given = value if sign else following
        return given


FIXED_BY_TRAINING = ("method", "seed", "flags", "dataset", "snapshot_kimg")
"""What cannot change once a run has begun."""
FIXED_BY_SCORES = (*FIXED_BY_TRAINING, "score_flags")
"""What cannot change once it has been scored, too."""
DATASET_TYPES = {"name": str, "num_images": int, "resolution": int}


def write_job(folder: Path, job: Job) -> Job:
    """Write the manifest, or bring the one that is there up to date; returns it.

    Whatever was asked for before counts only if the run has begun.

    Raises:
        UserError: The folder holds a run that began with other settings, or its manifest is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run_dir = find_run(folder)
    if run_dir is not None and (folder / MANIFEST).exists():
        before = read_job(folder)
        is_scored = bool(results_files(run_dir))
        for name in FIXED_BY_SCORES if is_scored else FIXED_BY_TRAINING:
            if _comparable(before, name) != _comparable(job, name):
                raise UserError(
                    f"{folder} began with {name} {getattr(before, name)!a}, but now it is {getattr(job, name)!a}: "
                    "restore that setting, or choose another --outdir"
                )
        job = replace(
            job,
            kimg=max(job.kimg, before.kimg) if trained_kimg(run_dir) > job.kimg else job.kimg,
            metrics=_united(before.metrics, job.metrics),
            last_metrics=_united(before.last_metrics, job.last_metrics),
        )
    write_json(folder / MANIFEST, asdict(job), indent=1)
    return job


def _comparable(job: Job, name: str) -> Any:
    """Return a setting; its paths are absolute, which older manifests do not have."""
    value = getattr(job, name)
    return with_absolute_paths(value) if name in ("flags", "score_flags") else value


def _united(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def read_job(folder: Path) -> Job:
    """Read the manifest.

    Raises:
        UserError: It is missing or damaged.
    """
    path = folder / MANIFEST
    try:
        job = Job(**json.loads(path.read_bytes()))
        _check_types(job)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:100]!a}); delete it and repeat the command") from error
    return job


def _check_types(job: Job) -> None:
    for name, hint in get_type_hints(Job).items():
        value, kind = getattr(job, name), get_origin(hint) or hint
        if not isinstance(value, kind) or (kind is list and not all(isinstance(each, str) for each in value)):
            raise TypeError(f"{name} is {value!a}")
    for name, kind in DATASET_TYPES.items():
        if not isinstance(job.dataset.get(name), kind):
            raise TypeError(f"{name} of the dataset is {job.dataset.get(name)!a}")


def find_run(folder: Path) -> Path | None:
    """Find the folder that ``train.py`` made."""
    return max((path for path in folder.glob("[0-9]*-*") if (path / OPTIONS_FILE).is_file()), default=None)


def trained_kimg(run_dir: Path) -> float:
    """Return how far a run has come, by its statistics."""
    return max((tick.kimg for tick in read_ticks(run_dir)), default=0.0)


def remove_leftovers(folder: Path) -> None:
    """Remove the folder, with hidden files at most, that ``train.py`` leaves if it is killed before writing options."""
    for path in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*"):
        if path.is_dir() and all(each.name.startswith(".") and each.is_file() for each in path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)


def is_trained(run_dir: Path | None, kimg: int) -> bool:
    """Return whether a run is finished and long enough; the lock is tried last, as others may be waiting for it."""
    if run_dir is None or read_status(run_dir).get("kimg", 0) < kimg:
        return False
    return find_state(run_dir) is RunState.FINISHED


def missing_scores(run_dir: Path, job: Job) -> Iterator[tuple[Path, list[str]]]:
    """Yield the snapshots without a record of some metrics, with these, the last snapshot first."""
    known = {metric: read_snapshot_results(results_file(run_dir, metric)) for metric in job.all_metrics}
    for number, path in enumerate(reversed(scored_snapshots(run_dir))):
        wanted = job.all_metrics if number == 0 else job.metrics
        missing = [metric for metric in wanted if path.name not in known[metric]]
        if missing:
            yield path, missing


def is_done(folder: Path, job: Job) -> bool:
    """Return whether a run is long enough, scored and drawn; snapshots that were removed count as scored."""
    run_dir = find_run(folder)
    if run_dir is None or not is_trained(run_dir, job.kimg):
        return False
    if any(missing_scores(run_dir, job)):
        return False
    pictures = [SAMPLES] + [BOXES] * (object_detector(run_dir, job) is not None)
    is_drawn = all(record_file(folder / name).is_file() for name in pictures)
    return is_drawn or not scored_snapshots(run_dir)


def object_detector(run_dir: Path, job: Job) -> str | None:
    """Name the detector of the object metrics, as ``--object-detector`` takes it; None without such metrics."""
    for metric in job.all_metrics:
        for record in read_results(results_file(run_dir, metric)):
            name = record.protocol.get("object_detector")
            if isinstance(name, str):
                return job.score_flag("object-detector") or name
    return None
