"""Which runs a comparison consists of; remembered in its folder, so that it can be drawn without further flags."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.jobs import MANIFEST, Job, read_job, write_job
from comparison.methods import Method, parse_methods
from dnnlib.atomic import write_atomic
from dnnlib.util import UserError

PLAN_FILE = "comparison.json"
CheckFlags = Callable[[str, Sequence[str], str, Path], None]


@dataclass(frozen=True)
class Plan:
    """A comparison."""

    outdir: Path
    methods: list[Method]
    jobs: dict[Path, Job]
    """By folder, in the order in which they are begun."""

    def of(self, method: Method) -> dict[Path, Job]:
        """The runs of one method."""
        return {folder: job for folder, job in self.jobs.items() if job.method == method.label}

    @property
    def metrics(self) -> list[str]:
        """The metrics of all runs."""
        return list(dict.fromkeys(metric for job in self.jobs.values() for metric in job.all_metrics))


def plan_runs(
    outdir: Path,
    *,
    data: str,
    cfgs: str,
    scales: Sequence[str],
    seeds: Sequence[int],
    kimg: int,
    snapshot_kimg: int | None,
    metrics: Sequence[str],
    last_metrics: Sequence[str] = (),
    flags: list[str],
    score_flags: list[str],
    check: CheckFlags,
) -> Plan:
    """Check the methods, then write the manifests of all runs.

    Raises:
        UserError: A method cannot be read or trained, or a folder holds a run with other settings.
    """
    from training.run.launch import inspect_dataset

    methods = parse_methods(cfgs, scales)
    info = inspect_dataset(data, use_labels=False)
    dataset = {"name": info.name, "num_images": info.num_images, "resolution": info.resolution}
    for method in methods:
        if all((outdir / method.folder / f"seed{seed}" / MANIFEST).exists() for seed in seeds):
            continue  # it has been checked
        check(method.label, [f"--kimg={kimg}", *method.flags, *flags], data, outdir)
    distance = snapshot_kimg or _known_snapshot_kimg(outdir) or max(round(kimg / 8), 1)
    jobs = {}
    for seed in seeds:  # all methods with one seed first: then there is something to compare
        for method in methods:
            folder = outdir / method.folder / f"seed{seed}"
            job = Job(
                method=method.label,
                seed=seed,
                flags=[*method.flags, *flags],
                dataset=dataset,
                data=data,
                kimg=kimg,
                snapshot_kimg=distance,
                metrics=list(metrics),
                last_metrics=list(last_metrics),
                score_flags=score_flags,
            )
            jobs[folder] = write_job(folder, job)
    plan = Plan(outdir, methods, jobs)
    named = {"cfgs": [method.label for method in methods], "folders": [str(path.relative_to(outdir)) for path in jobs]}
    write_atomic(outdir / PLAN_FILE, (json.dumps(named, indent=1) + "\n").encode())
    return plan


def _known_snapshot_kimg(outdir: Path) -> int | None:
    """Return the distance of snapshots in the runs that a folder holds already."""
    found = next(outdir.glob(f"*/seed*/{MANIFEST}"), None)
    return None if found is None else read_job(found.parent).snapshot_kimg


def read_plan(outdir: Path) -> Plan:
    """Read the plan that `plan_runs` left in a folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    path = outdir / PLAN_FILE
    try:
        named: dict[str, Any] = json.loads(path.read_bytes())
        methods = [parse_methods(label)[0] for label in named["cfgs"]]
        folders = [_inside(outdir, name) for name in named["folders"]]
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:100]!a}); run compare.py without --draw") from error
    return Plan(outdir, methods, {folder: read_job(folder) for folder in folders})


def _inside(outdir: Path, name: str) -> Path:
    if len(Path(name).parts) != 2 or ".." in Path(name).parts or Path(name).is_absolute():
        raise ValueError(f"{name[:100]!a} is no folder of a run")
    return outdir / name
