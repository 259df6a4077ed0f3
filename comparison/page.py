"""The page of a comparison: tables, curves and figures, every number with its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from comparison.curves import score_charts
from comparison.elements import number_cell, records_anchor, section
from comparison.logits import logit_charts
from comparison.objects import is_object_score, objects_section
from comparison.pictures import boxes, samples
from comparison.plan import Plan
from comparison.summary import PLUS_MINUS, Comparison, MethodResult
from comparison.tables import Table, Tables
from comparison.words import verdicts
from dnnlib.formatting import format_number, format_time, plural
from training.run.page.html import Html, document, table, tag
from training.run.stats_file import STATS_FILE

READING = (
    f"Mean {PLUS_MINUS} sample standard deviation over the seeds. The numbers link to the records of their runs; "
    "resting the pointer on one names the file and line of each seed.",
    "Equal images: the largest number of training images that every run has seen and been scored after. Equal time: "
    "the longest training time, without snapshots and metrics, that every run has had; between two snapshots a score "
    "is interpolated linearly, and a dash means that a method had no scored snapshot by then. Times are wall-clock "
    "times of this machine: whatever else ran on it is in them.",
    "Best is the best snapshot of each run, which favors methods whose scores vary; last is the end of the run.",
    "The mean over the second half of the snapshots, up to equal images, varies less than one of them, so differences "
    "are those of these means. They are compared by Welch's t interval, which assumes scores that are normally "
    "distributed over seeds, and takes no account of how many methods and scores are compared here.",
)
PRETRAINED_NOTE = (
    "* The discriminator uses a backbone pretrained on ImageNet. Frechet distances in features of related "
    "networks favor it beyond what people see (arXiv 2203.06026): they cannot decide between it and methods without "
    "a mark."
)


def page(plan: Plan, comparison: Comparison, tables: Tables) -> Html:
    """Return the page."""
    sections = [
        tag("p", _setting(plan)),
        _states(comparison),
        *(_score_section(comparison, *each) for each in tables.scores.items() if not is_object_score(each[0])),
        objects_section(comparison, tables.scores),
        section("Cost", _table(tables.cost)),
        _logits(comparison, tables.gaps),
        section("Diversity of samples", _table(tables.diversity)) if tables.diversity else None,
        boxes(comparison),
        samples(comparison, next(iter(plan.jobs.values())).dataset["resolution"]),
        section("How to read this", *(tag("p", paragraph) for paragraph in READING)),
        section("Records", *(_records(plan, result) for result in comparison.methods)),
    ]
    return document(_title(plan), *filter(None, sections))


def _title(plan: Plan) -> str:
    num, dataset = len(plan.methods), next(iter(plan.jobs.values())).dataset
    return f"{plural(num, 'method')} on {dataset['name']}"


def _setting(plan: Plan) -> str:
    jobs = plan.jobs.values()
    size = next(iter(jobs)).dataset
    lengths, distances = (_range([job.kimg for job in jobs]), _range([job.snapshot_kimg for job in jobs]))
    return (
        f"{plural(size['num_images'], 'image')} of {size['resolution']} px. Training sees {lengths} thousand images, "
        f"and a snapshot is scored every {distances} thousand."
    )


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _states(comparison: Comparison) -> Html | None:
    items = [
        tag("li", f"{result.method.label}, seed {seed}: {state}")
        for result in comparison.methods
        for seed, state in result.states.items()
    ]
    return section("Not complete", tag("ul", *items)) if items else None


def _table(found: Table) -> Html:
    has_seeds = any(row.num_seeds is not None for row in found.rows)
    names = [column.long_name or column.name for column in found.columns]
    rows = [
        [
            row.result.name,
            *([str(row.num_seeds)] if has_seeds else []),
            *(
                number_cell(row.result, cell, column.is_timing)
                for cell, column in zip(row.cells, found.columns, strict=True)
            ),
        ]
        for row in found.rows
    ]
    return table(["method", *(["seeds"] if has_seeds else []), *names], rows, found.caption)


def _score_section(comparison: Comparison, score: str, found: Table) -> Html:
    sentences = [tag("li", sentence) for sentence in verdicts(comparison, score)]
    return section(
        score,
        _table(found),
        *_marks(comparison, score),
        tag("h3", "Is a difference larger than the variation between seeds?") if sentences else "",
        tag("ul", *sentences) if sentences else "",
        *(_curves(comparison, score) if comparison.is_curve(score) else ()),
    )


def _curves(comparison: Comparison, score: str) -> Iterator[Html]:
    sec = comparison.common_sec(score)
    assert sec is not None
    yield tag("p", f"Equal time is {format_time(sec)} of training.", data_timing=True)
    yield score_charts(comparison, score)


def _marks(comparison: Comparison, score: str) -> Iterator[Html]:
    """Explain the marks in a table, and name the methods that this score favors."""
    if any(result.is_pretrained for result in comparison.methods):
        yield tag("p", PRETRAINED_NOTE, class_="note")
    favored = [result.method.label for result in comparison.methods if any(score in run.related for run in result.runs)]
    if favored:
        words = "whose discriminator has a pretrained backbone akin to the network that this score is measured in"
        yield tag("p", f"This score favors {', '.join(favored)}, {words}.", class_="note")


def _logits(comparison: Comparison, gaps: Table | None) -> Html | None:
    """Draw figure 2 of the supplement, and show the distance between its two curves in numbers."""
    charts = [found for result in comparison.methods if (found := logit_charts(result)) is not None]
    if gaps is None and not charts:
        return None
    text = (
        "As figure 2 of the supplement: what the discriminator says of real and of generated images at each scale, "
        "mean and deviation over the images of a tick, for the first seed of each method."
    )
    return section("Logits by scale", _table(gaps) if gaps else "", tag("p", text), *charts)


def _link(file: str) -> Html:
    """Link to a file beside the page, whose name may hold any character."""
    return tag("a", tag("code", file), href=quote(file))


def _records(plan: Plan, result: MethodResult) -> Html:
    rows = []
    for run in result.runs:
        for score, points in run.scores.items():
            for point in points:
                file, _, line = point.source.rpartition(":")
                link = _link(file)
                time = tag("td", f"{point.train_sec:.0f}", data_timing=True)
                value = tag("td", format_number(point.value, 6), data_records=point.source)
                rows.append(
                    [
                        f"seed {run.seed}",
                        score,
                        format_number(point.kimg),
                        time,
                        value,
                        tag("td", link, f", line {line}"),
                    ]
                )
    header = ["run", "score", "kimg", "training seconds", "value", "record"]
    job = next(iter(plan.of(result.method).values()))
    stats = [
        tag("li", _link(name), f" (seed {run.seed}: time, memory, logits)")
        for run in result.runs
        for name in [(run.folder / STATS_FILE).relative_to(plan.outdir).as_posix()]
    ]
    return tag(
        "details",
        tag("summary", result.method.label),
        # The anchor is within: browsers open what they jump into.
        tag("p", "train.py ", tag("code", " ".join(job.flags)), id=records_anchor(result)),
        tag("ul", *stats),
        table(header, rows, f"All scores of {result.method.label}"),
    )
