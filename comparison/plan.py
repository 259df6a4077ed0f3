"""The runs of a comparison, recorded in its folder so that it can be drawn again without further flags."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparison.jobs import MANIFEST, Job, find_run, read_job, write_job
from comparison.methods import Method, check_common, parse_methods
from comparison.paths import with_absolute_paths
from dnnlib.errors import UserError
from dnnlib.json_file import write_json

PLAN_FILE = "comparison.json"
CheckFlags = Callable[[str, Sequence[str], str, Path], None]


@dataclass(frozen=True)
class Plan:
    """A comparison."""

    outdir: Path
    methods: list[Method]
    jobs: dict[Path, Job]
    """Runs by folder, in the order in which they are started."""
    left_out: tuple[str, ...] = ()
    """Folders of runs that earlier commands started and this one does not name."""

    def of(self, method: Method) -> dict[Path, Job]:
        """Return the runs of one method."""
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
    from training.run.dataset_info import inspect_dataset

    methods = parse_methods(cfgs, scales)
    check_common(flags, methods)
    info = inspect_dataset(data, use_labels=False)
    dataset = {"name": info.name, "num_images": info.num_images, "resolution": info.resolution}
    for method in methods:
        if all(find_run(outdir / method.folder / f"seed{seed}") is not None for seed in seeds):
            continue  # it is being trained
        check(method.label, [f"--kimg={kimg}", *method.flags, *flags], data, outdir)
    common = Job(
        method="",
        seed=0,
        flags=flags,
        dataset=dataset,
        data=data,
        kimg=kimg,
        snapshot_kimg=snapshot_kimg or _known_snapshot_kimg(outdir) or max(round(kimg / 8), 1),
        metrics=list(metrics),
        last_metrics=list(last_metrics),
        score_flags=with_absolute_paths(score_flags),
    )
    jobs = {}
    for seed in seeds:  # all methods with one seed first: then there is something to compare
        for method in methods:
            job = replace(common, method=method.label, seed=seed, flags=with_absolute_paths([*method.flags, *flags]))
            folder = outdir / method.folder / f"seed{seed}"
            jobs[folder] = write_job(folder, job)
    plan = Plan(outdir, methods, jobs, _left_out(outdir, jobs))
    _write_plan(plan)
    return plan


def _left_out(outdir: Path, jobs: Collection[Path]) -> tuple[str, ...]:
    begun = [path.parent for path in sorted(outdir.glob(f"*/seed*/{MANIFEST}"))]
    return tuple(
        folder.relative_to(outdir).as_posix() for folder in begun if folder not in jobs and find_run(folder) is not None
    )


def _write_plan(plan: Plan) -> None:
    folders = [folder.relative_to(plan.outdir).as_posix() for folder in plan.jobs]
    named = {"cfgs": [method.label for method in plan.methods], "folders": folders}
    write_json(plan.outdir / PLAN_FILE, named, indent=1)


def _known_snapshot_kimg(outdir: Path) -> int | None:
    """Return the distance of snapshots in the runs that have begun."""
    begun = (path.parent for path in outdir.glob(f"*/seed*/{MANIFEST}") if find_run(path.parent) is not None)
    return next((read_job(folder).snapshot_kimg for folder in begun), None)


def read_plan(outdir: Path) -> Plan:
    """Read the plan that `plan_runs` left in a folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    path = outdir / PLAN_FILE
    if not path.exists():
        raise UserError(f"{outdir} holds no comparison: there is no {PLAN_FILE} in it")
    try:
        named: dict[str, Any] = json.loads(path.read_bytes())
        methods = [parse_methods(label)[0] for label in named["cfgs"]]
        folders = [_inside(outdir, name) for name in named["folders"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({str(error)[:100]!a}); repeat the command that began the comparison"
        ) from error
    plan = Plan(outdir, methods, {folder: read_job(folder) for folder in folders})
    if not methods or not all(map(plan.of, methods)):
        raise UserError(f"{path} names no runs, or none of one of its methods; repeat the command that began it")
    return plan


def _inside(outdir: Path, name: str) -> Path:
    if len(Path(name).parts) != 2 or ".." in Path(name).parts or Path(name).is_absolute():
        raise ValueError(f"{name[:100]!a} is not the folder of a run")
    return outdir / name
