"""What the page and the table say: scores of each method at equal images and at equal time, with their records."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comparison.jobs import Job, find_run, is_done
from comparison.methods import Method, is_pretrained
from comparison.plan import Plan
from comparison.records import Point, ScoredRun, read_run
from comparison.runner import describe
from comparison.statistics import Spread, spread, value_at
from dnnlib.formatting import format_number
from metrics.direction import is_higher_better
from training.run.stats_file import SAME_KIMG, Series

RunValue = Callable[[ScoredRun], "tuple[float, str] | None"]
"""Finds a number of a run and where it stands; None if the run does not have it."""

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
        """The points of each run that has this score."""
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
        """Images that all scored runs have seen, in thousands."""
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
        """Whether snapshots of two runs stand in the same place: each lies behind it by some iterations of its run."""
        return abs(kimg - other_kimg) < self.tolerance_kimg

    @property
    def tolerance_kimg(self) -> float:
        """How far apart the same snapshot of two runs can be."""
        return self.snapshot_kimg / 4

    def is_curve(self, score: str) -> bool:
        """Whether any run was scored at several snapshots, not at the last one alone."""
        return any(len(points) > 1 for each in self.methods for points in each.points(score))

    def common_sec(self, score: str) -> float | None:
        """Training time that all scored runs have had."""
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


def at_kimg(score: str, kimg: float) -> RunValue:
    """Return a score after a number of images, interpolated between the snapshots before and after."""
    return lambda run: _interpolated(run.scores.get(score, []), kimg, lambda point: point.kimg)


def at_sec(score: str, sec: float) -> RunValue:
    """Return a score after so much training time, interpolated likewise."""
    return lambda run: _interpolated(run.scores.get(score, []), sec, lambda point: point.train_sec)


def _interpolated(points: Sequence[Point], x: float, axis: Callable[[Point], float]) -> tuple[float, str] | None:
    xs = [axis(point) for point in points]
    value = value_at(x, xs, [point.value for point in points])
    if value is None:
        return None
    after = next((i for i, each in enumerate(xs) if each >= x - 1e-9), len(xs) - 1)
    used = points[after : after + 1] if abs(xs[after] - x) < 1e-9 else points[max(after - 1, 0) : after + 1]
    return value, " and ".join(point.source for point in used)


def second_half(comparison: Comparison, score: str) -> RunValue:
    """Return the mean over the snapshots of the second half that all runs have: a single one is a noisy estimate."""
    common = comparison.common_snapshots(score)

    def find(run: ScoredRun) -> tuple[float, str] | None:
        points = [
            point
            for point in run.scores.get(score, [])
            if any(comparison.is_same_snapshot(point.kimg, kimg) for kimg in common)
        ]
        if not points:
            return None
        return sum(point.value for point in points) / len(points), " and ".join(point.source for point in points)

    return find


def mean_statistic(name: str, kimg: float) -> RunValue:
    """Return the mean of a statistic in ``stats.jsonl`` from kimg / 2 to kimg; shorter runs have none."""
    return lambda run: mean_of_series(run, run.series.get(name), kimg)


def mean_of_series(run: ScoredRun, series: Series | None, kimg: float) -> tuple[float, str] | None:
    """Return the mean from kimg / 2 to kimg, and its lines; None for a shorter run, or without values there."""
    if series is None or run.ticks[-1].kimg < kimg - SAME_KIMG:
        return None
    half = series.between(kimg / 2, kimg)
    if len(half.mean) == 0:
        return None
    file, _, _line = run.ticks[-1].source.rpartition(":")
    return float(half.mean.mean()), f"{file}:{half.number[0]} to {half.number[-1]}"


def best(score: str) -> RunValue:
    """Return the best score of all snapshots."""
    sign = -1 if is_higher_better(score) else 1

    def find(run: ScoredRun) -> tuple[float, str] | None:
        points = run.scores.get(score)
        if not points or is_higher_better(score) is None:
            return None
        point = min(points, key=lambda each: sign * each.value)
        return point.value, point.source

    return find


def last(score: str) -> RunValue:
    """Return the score of the last snapshot."""

    def find(run: ScoredRun) -> tuple[float, str] | None:
        points = run.scores.get(score)
        return (points[-1].value, points[-1].source) if points else None

    return find


def sec_per_kimg(run: ScoredRun) -> tuple[float, str] | None:
    """Return the cost of a run that has a score: the first iterations of a run say little of its cost."""
    if not run.scores:
        return None
    return run.sec_per_kimg, f"{run.ticks[0].source} to {run.ticks[-1].source.rpartition(':')[2]}"


def peak_memory_gib(run: ScoredRun) -> tuple[float, str] | None:
    """Return the largest memory that a run with a score reported."""
    if not run.scores:
        return None
    tick = max(run.ticks, key=lambda each: each.memory_gib)
    return tick.memory_gib, tick.source
