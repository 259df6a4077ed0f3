"""The page of a run, ``report.html`` in its folder, and the page that compares several runs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dnnlib.atomic import write_atomic
from dnnlib.formatting import format_number, format_time
from dnnlib.jsonl import finite
from training.run.folder import read_spent_sec
from training.run.health.monitor import Monitor
from training.run.names import REALS_FILE
from training.run.page.html import Html, document, embed_json, image, join, table, tag
from training.run.page.names import distinct_names
from training.run.page.next_commands import next_commands
from training.run.page.pictures import Picture, sample_pictures, small_picture
from training.run.page.records import MAX_POINTS, REPORTED_RUNNING, UNREPORTED, RunRecords, read_records, updated_sec
from training.run.page.run_charts import (
    cost_section,
    health_section,
    logit_section,
    method_section,
    score_section,
    training_section,
)

PAGE_FILE = "report.html"
MAX_RUNS = 12
MIN_POINTS = 60
MAX_PICTURE_BYTES = 5 << 20
"""Sum of all pictures of a page; base64 makes 4/3 of it, which leaves 3 MB of 10 for curves and text."""
STATES = {
    "running": "running",
    REPORTED_RUNNING: "running by its last report, which this user cannot check",
    "finished": "finished",
    UNREPORTED: "unknown: the folder has no readable exit_status.json",
    "stopped": "stopped",
    "interrupted": "interrupted: no process is training",
    "failed": "ended by an error",
    "unsaved": "ended before its last progress was saved",
    "diverged": "stopped because training diverged",
}


def write_run_page(run_dir: Path, monitor: Monitor | None = None) -> Path:
    """Write the page of one run into its folder, replacing it atomically; returns its path.

    Args:
        run_dir: Run folder.
        monitor: Health of the run; None to read it from the files.

    Raises:
        UserError: There is no run.
        OSError: The page cannot be written.
    """
    path = run_dir / PAGE_FILE
    write_atomic(path, run_page([read_records(run_dir, monitor)]).encode())
    return path


def write_comparison(run_dirs: Sequence[Path], path: Path) -> None:
    """Write a page that compares runs.

    Raises:
        UserError: One of the folders holds no run.
        OSError: The page cannot be written.
    """
    max_points = max(MAX_POINTS // len(run_dirs), MIN_POINTS)
    runs = [read_records(run_dir, None, max_points) for run_dir in run_dirs]
    for run, name in zip(runs, distinct_names(run_dirs), strict=True):
        run.name = name
    write_atomic(path, run_page(runs).encode())


def run_page(runs: Sequence[RunRecords]) -> Html:
    """Return the page of one run, or of several."""
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    charts = (score_section, training_section, logit_section, method_section, health_section, cost_section)
    sections = [
        *([_overview(runs)] if len(runs) > 1 else [_status(runs[0])]),
        _health(runs),
        *(_samples(runs, number) for number in range(len(runs))),
        *(draw(runs) for draw in charts),
        *([_commands(runs[0]), _options(runs[0])] if len(runs) == 1 else []),
    ]
    return document(title, *(section for section in sections if section is not None), scripts=("slider.js",))


def _status(run: RunRecords) -> Html:
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in _facts(run)]
    progress = tag(
        "progress",
        value=f"{run.kimg:g}",
        max=f"{max(run.total_kimg, run.kimg):g}",
        aria_label="Part of the run that is done",
    )
    return tag("section", progress, tag("dl", *rows, class_="facts"))


def _facts(run: RunRecords) -> Iterator[tuple[str, str]]:
    is_left = run.state in ("stopped", "interrupted", "failed", "unsaved") and run.can_continue
    yield "State", STATES[run.state] + (", and can be continued from its last checkpoint" if is_left else "")
    if run.error:
        yield "Error", run.error
    yield "Images seen", f"{format_number(run.kimg)} of {format_number(run.total_kimg)} thousand"
    pace = run.sec_per_kimg
    if pace is not None:
        yield "Pace", f"{format_number(pace, 3)} s per thousand images, snapshots and scores included"
        left_sec = _left_sec(run, pace)
        if run.state != "finished" and left_sec > 0:
            yield "Time left", f"{format_time(left_sec).strip()} of training"
    if run.best is not None:
        yield "Best snapshot", f"{run.best['snapshot']}: {_best_score(run.best)}"
    written = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(updated_sec(run.folder)))
    is_over = run.state == "finished"
    yield "Last report", written if is_over else f"{written}; reload this page after the next snapshot"


def _best_score(best: dict[str, Any]) -> str:
    return f"{best['score']} {format_number(best['value'])} at {format_number(best['kimg'])} kimg"


def _left_sec(run: RunRecords, sec_per_kimg: float) -> float:
    """Return the seconds until a run will have its length, in images or in time."""
    limit_sec = finite(run.options.get("time_limit_sec"))
    if limit_sec is None:
        return sec_per_kimg * (run.total_kimg - run.kimg)
    total_kimg = finite(run.options.get("total_kimg"))
    by_images = math.inf if total_kimg is None else sec_per_kimg * (total_kimg - run.kimg)
    return min(by_images, limit_sec - read_spent_sec(run.folder))


def _overview(runs: Sequence[RunRecords]) -> Html:
    rows = [
        [
            run.name,
            STATES[run.state].partition(",")[0].partition(":")[0],
            f"{format_number(run.kimg)} of {format_number(run.total_kimg)}",
            "-" if run.sec_per_kimg is None else format_number(run.sec_per_kimg, 3),
            "-" if run.best is None else _best_score(run.best),
            str(len(run.monitor.warnings)),
        ]
        for run in runs
    ]
    header = ["run", "state", "kimg", "s per kimg", "best snapshot", "warnings"]
    return tag("section", table(header, rows, "All runs"))


def _health(runs: Sequence[RunRecords]) -> Html:
    prefix = {id(run): f"{run.name}: " if len(runs) > 1 else "" for run in runs}
    now = [
        tag("li", tag("strong", "Warning: "), prefix[id(run)], _with_flags(warning.text))
        for run in runs
        for warning in run.monitor.warnings
    ]
    earlier = [
        tag("li", f"{prefix[id(run)]}{_span(first, last)}: ", _with_flags(warning.text))
        for run in runs
        for first, last, warning in run.monitor.seen.values()
        if warning.kind not in run.monitor.kinds()
    ]
    content = [
        tag("ul", *now, class_="warnings") if now else tag("p", "Nothing unusual at the last report.", class_="fine")
    ]
    if earlier:
        content.append(tag("details", tag("summary", f"Earlier warnings ({len(earlier)})"), tag("ul", *earlier)))
    return tag("section", tag("h2", "Health"), *content)


def _with_flags(text: str) -> Html:
    """Mark up the flags in a text, so that they are not broken at their hyphens."""
    parts = re.split(r"(--[a-z][a-z-]*(?:=[\w.]+)?)", text)
    return join(*(tag("code", part, class_="flag") if number % 2 else part for number, part in enumerate(parts)))


def _span(first_kimg: float, last_kimg: float) -> str:
    first, last = format_number(first_kimg), format_number(last_kimg)
    return f"at {first} kimg" if first_kimg == last_kimg else f"from {first} to {last} kimg"


def _samples(runs: Sequence[RunRecords], number: int) -> Html | None:
    run, max_bytes = runs[number], MAX_PICTURE_BYTES // len(runs)
    pictures = sample_pictures(run.folder, run.resolution, max_bytes * 4 // 5)
    reals = small_picture(run.folder / REALS_FILE, run.resolution, "real images")
    figures = []
    if pictures:
        figures.append(_slider(f"slider-{number}", pictures))
    if reals is not None and len(reals.data) <= max_bytes // 5:
        shown = _picture(reals, "Grid of real images of the training set")
        figures.append(tag("figure", tag("figcaption", "Real images of the training set"), shown, class_="reals"))
    if not figures:
        return None
    title = f"Samples of {run.name}" if len(runs) > 1 else "Samples over time"
    return tag("section", tag("h2", title), tag("div", *figures, class_="pair"))


def _slider(name: str, pictures: Sequence[Picture]) -> Html:
    frames = [
        {"label": each.label, "alt": f"Grid of generated images {each.label}", "source": each.source}
        for each in pictures
    ]
    last = pictures[-1]
    slider = tag(
        "input", type="range", id=name, min="0", max=str(len(frames) - 1), value=str(len(frames) - 1), step="1"
    )
    return tag(
        "figure",
        tag("figcaption", "Generated ", tag("span", last.label, class_="moment")),
        _picture(last, frames[-1]["alt"]),
        tag("div", tag("label", "Time", for_=name), slider, class_="slide"),
        tag("script", embed_json(frames), type="application/json"),
        class_="samples",
    )


def _picture(picture: Picture, alt: str) -> Html:
    return image(picture.data, "image/webp", alt, picture.width_px, picture.height_px)


def _commands(run: RunRecords) -> Html:
    items = [tag("div", tag("dt", what), tag("dd", tag("code", command))) for what, command in next_commands(run)]
    return tag("section", tag("h2", "Commands"), tag("dl", *items, class_="commands"))


def _options(run: RunRecords) -> Html | None:
    if not run.options:
        return None
    rows = [[name, value] for name, value in sorted(run.flat_options())]
    content = table(["option", "value"], rows, "Arguments of the training loop")
    return tag("section", tag("h2", "Options"), tag("details", tag("summary", f"All {len(rows)} options"), content))
