"""What is known of all runs of a comparison, by method and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from comparison.jobs import Job, find_run, is_done
from comparison.methods import Method, is_pretrained
from comparison.plan import Plan
from comparison.records import Point, RunValue, ScoredRun, read_run
from comparison.runner import describe
from comparison.statistics import Spread, spread
from dnnlib.formatting import format_number

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True)
class Value:
    """A number of one run, and where it comes from."""

    seed: int
    number: float
    source: str


@dataclass(frozen=True)
class Cell:
    """A number for each seed."""

    values: tuple[Value, ...]

    @property
    def spread(self) -> Spread | None:
        """Mean and deviation; None without values."""
        return spread([value.number for value in self.values]) if self.values else None

    @property
    def text(self) -> str:
        """Mean, to four digits, and deviation, to as many decimals."""
        if (found := self.spread) is None:
            return "-"
        decimals = max(3 - math.floor(math.log10(abs(found.mean))), 0) if found.mean else 3
        mean = f"{found.mean:.{decimals}f}"
        return mean if found.num == 1 else f"{mean} {PLUS_MINUS} {found.std:.{decimals}f}"

    @property
    def sources(self) -> str:
        """Every seed's number with its record."""
        return "; ".join(
            f"seed {value.seed}: {format_number(value.number, 6)} ({value.source})" for value in self.values
        )


@dataclass
class MethodResult:
    """What is known of one method."""

    method: Method
    runs: list[ScoredRun] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    """By seed, of the runs that are not done: how far they are, or why they failed; and what they could not be scored
    by."""
    folders: dict[int, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label, with a mark if D is pretrained."""
        return self.method.label + (" *" if self.is_pretrained else "")

    @property
    def is_pretrained(self) -> bool:
        """Whether D has a pretrained backbone."""
        return is_pretrained(self.method.cfg) or any(run.pretrained for run in self.runs)

    def cell(self, value: RunValue) -> Cell:
        """Collect a number over the seeds, leaving out the runs that do not have it."""
        found = [(run.seed, value(run)) for run in self.runs]
        return Cell(tuple(Value(seed, *each) for seed, each in found if each is not None))

    def points(self, score: str) -> list[list[Point]]:
        """Return the points of each run that has this score."""
        return [run.scores[score] for run in self.runs if run.scores.get(score)]


@dataclass
class Comparison:
    """Everything that is known."""

    methods: list[MethodResult]
    scores: list[str]
    """Names, in order of the metrics."""
    snapshot_kimg: float
    """Distance of the snapshots of each run."""

    def common_kimg(self, score: str) -> float | None:
        """Return how many images all scored runs have seen, in thousands."""
        return min((points[-1].kimg for each in self.methods for points in each.points(score)), default=None)

    def common_snapshots(self, score: str) -> list[float]:
        """Snapshots of the second half of training which all scored runs have a score of, in thousands of images."""
        runs = [points for each in self.methods for points in each.points(score)]
        start_kimg = min((points[-1].kimg for points in runs), default=0.0) / 2
        return [
            point.kimg
            for point in (runs[0] if runs else [])
            if point.kimg > start_kimg - self.tolerance_kimg
            and all(any(self.is_same_snapshot(point.kimg, each.kimg) for each in points) for points in runs)
        ]

    def is_same_snapshot(self, kimg: float, other_kimg: float) -> bool:
        """Return whether snapshots of two runs were due at the same time; each was saved some iterations after it."""
        return abs(kimg - other_kimg) < self.tolerance_kimg

    @property
    def tolerance_kimg(self) -> float:
        """How far apart the same snapshot of two runs can be."""
        return self.snapshot_kimg / 4

    def is_curve(self, score: str) -> bool:
        """Return whether any run was scored at several snapshots, not at the last one alone."""
        return any(len(points) > 1 for each in self.methods for points in each.points(score))

    def common_sec(self, score: str) -> float | None:
        """Return the training time in seconds that all scored runs have had."""
        return min((points[-1].train_sec for each in self.methods for points in each.points(score)), default=None)


def collect(plan: Plan, failures: dict[Path, str]) -> Comparison:
    """Read the records of all runs."""
    results = []
    for method in plan.methods:
        result = MethodResult(method)
        for folder, job in plan.of(method).items():
            _add(result, folder, job, plan, failures)
        results.append(result)
    names = [name for result in results for run in result.runs for name in run.scores]
    order = {metric: i for i, metric in enumerate(plan.metrics)}
    scores = sorted(dict.fromkeys(names), key=lambda name: _place(name, order))
    return Comparison(results, scores, min(job.snapshot_kimg for job in plan.jobs.values()))


def _place(name: str, order: dict[str, int]) -> tuple[int, str]:
    fits = [metric for metric in order if name.startswith(metric)]
    return (order[max(fits, key=len)], name) if fits else (len(order), name)


def _add(result: MethodResult, folder: Path, job: Job, plan: Plan, failures: dict[Path, str]) -> None:
    run_dir = find_run(folder)
    result.folders[job.seed] = folder
    if run_dir is not None:
        records = read_run(job.seed, run_dir, plan.outdir, job.all_metrics)
        if records.ticks:
            result.runs.append(records)
    if folder in failures:
        result.states[job.seed] = f"failed: {failures[folder]}"
    elif not is_done(folder, job):
        result.states[job.seed] = describe(folder, job)
    elif result.runs and result.runs[-1].seed == job.seed and result.runs[-1].reasons:
        reasons = result.runs[-1].reasons.items()
        result.states[job.seed] = "; ".join(f"no value of {metric} {reason}" for metric, reason in reasons)
