"""Results of metrics in a run folder, a line of JSON each (docs/metrics.md): written, read and summarized."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dnnlib.atomic import append_line
from dnnlib.formatting import format_number
from dnnlib.jsonl import finite, read_lines


class Record(NamedTuple):
    """The result of a metric of one snapshot, as the run folder holds it.

    Attributes:
        number: Its line in the file, from 1.
        snapshot: The file that was measured, relative to the run folder.
        values: The values that are finite, by name.
        protocol: Conditions of the measurement; empty in older records.
    """

    number: int
    snapshot: str
    values: dict[str, float]
    protocol: dict[str, Any]


def results_file(run_dir: str | os.PathLike[str], metric: str) -> Path:
    """Return the path of the file with the results of a metric in a run folder."""
    return Path(run_dir, f"metric-{metric}.jsonl")


def results_files(run_dir: Path) -> list[Path]:
    """List the files with results of metrics that a run folder holds, by name."""
    return sorted(run_dir.glob(results_file("", "*").name))


def read_results(path: Path) -> Iterator[Record]:
    """Yield the records of a results file from the oldest to the newest, without those that are damaged.

    A snapshot may have several; `read_snapshot_results` takes the one that counts.
    """
    for number, line in read_lines(path):
        snapshot, results, protocol = (line.get(key) for key in ("snapshot_pkl", "results", "protocol"))
        if isinstance(snapshot, str) and isinstance(results, dict):
            values = {name: score for name, value in results.items() if (score := finite(value)) is not None}
            yield Record(number, snapshot, values, protocol if isinstance(protocol, dict) else {})


def read_snapshot_results(path: Path) -> dict[str, Record]:
    """Read the record of each snapshot that counts, by the name of the snapshot.

    Of several the first counts: later ones may compare the snapshot with other images than training did, or with
    another seed.
    """
    found: dict[str, Record] = {}
    for record in read_results(path):
        found.setdefault(record.snapshot, record)
    return found


def report_metric(
    result_dict: dict[str, Any],
    run_dir: str | os.PathLike[str] | None = None,
    snapshot_pkl: str | os.PathLike[str] | None = None,
) -> None:
    """Print the result of a metric, and append its full record to ``metric-<name>.jsonl`` in the run folder.

    The record is a line of JSON (docs/metrics.md): the result, ``snapshot_pkl`` and ``timestamp`` (seconds since 1970).
    Values that are not finite become null. Without a run folder, and if the file cannot be written, the record is
    printed too, so that it is not lost.

    Args:
        result_dict: What `metrics.metric_main.calc_metric` returned.
        run_dir: Run folder; None writes no file.
        snapshot_pkl: The network that was measured, recorded relative to the run folder if there is one.
    """
    if run_dir is not None and snapshot_pkl is not None:
        snapshot_pkl = os.path.relpath(snapshot_pkl, run_dir)
    snapshot = None if snapshot_pkl is None else os.fspath(snapshot_pkl)
    results = {name: value if math.isfinite(value) else None for name, value in result_dict["results"].items()}
    record = {**result_dict, "results": results, "snapshot_pkl": snapshot, "timestamp": time.time()}
    lines, line = [summary(result_dict)], json.dumps(record, allow_nan=False)
    if run_dir is None:
        lines.append(line)
    else:
        path = results_file(run_dir, result_dict["metric"])
        try:
            append_line(path, line)
        except OSError as error:  # hours of work are not to be lost
            lines += [f"Warning: {path} cannot be written: {error.strerror}; this is the record:", line]
    print(*lines, sep="\n", flush=True)  # last, as it may fail


def summary(result_dict: dict[str, Any]) -> str:
    """Return one readable line: values, numbers of images, detector, time."""
    protocol = result_dict.get("protocol", {})
    values = ", ".join(f"{name} {format_number(value, 5)}" for name, value in result_dict["results"].items())
    scored = "generated images" if "G_kwargs" in protocol else "images scored"
    counts = {"num_real": "real images", "num_gen": scored}
    details = [f"{protocol[key]} {text}" for key, text in counts.items() if key in protocol]
    if "num_crops" in protocol:
        details.append(f"{protocol['num_crops']} crops a side")
    details += [protocol[key] for key in ("object_detector", "detector", "reason") if key in protocol]
    line = f"{values} ({', '.join([*details, result_dict['total_time_str']])})"
    if protocol.get("related_pretrained_D"):
        line += (
            f"; biased in its favor: the discriminator uses features of {protocol['pretrained_D']}, pretrained on the "
            "same images as this detector"
        )
    return line
