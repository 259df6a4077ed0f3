"""What to run first on a GPU: one command, under 20 minutes, a JSON file and a table.

``python -m benchmarks.gpu --out=gpu.json`` measures the device's own limits; each operation that has a kernel, against
float64 and as a share of the speed of a copy, in both memory formats; seconds per thousand images and peak memory of
training at 256 px; launches that a profiler sees against those that `benchmarks.gpu_cost` counts; and what MsConD
costs. Each part runs in a process of its own: what fails, hangs or breaks the device is reported, and the rest goes
on. The file is written anew after every part. ``--device=cpu --quick`` runs every part at tiny sizes, to test this
script.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.gpu_operations import (
    OPERATIONS,
    Setup,
    describe_machine,
    measure_ceilings,
    measure_operation,
)
from benchmarks.gpu_report import report
from benchmarks.gpu_training import compare_launches, measure_ratio, measure_training
from dnnlib.json_file import write_json

FORMATS_OF_DTYPES = (("fp16", "NHWC"), ("fp16", "NCHW"), ("bf16", "NHWC"), ("fp32", "NCHW"))
CONFIGURATIONS = ("auto", "paper256", "stylegan2", "msconD")
BATCHES = (8, 16, 64)
METHOD, BASELINE, COMPARED_BATCH = "msconD", "stylegan2", 16
PRELOADED = ["benchmarks.gpu_training", "torch._dynamo"]
"""Imported once for all parts: what they are made of, and what PyTorch imports for the first operator on meta."""
PART_MINUTES = 3
"""Time limit of one part, most of which take seconds."""


@dataclass(frozen=True)
class Part:
    """One measurement: ``measure(setup, **arguments)`` returns what JSON can hold."""

    name: str
    measure: Callable[..., Any]
    arguments: dict[str, Any]


def all_parts(setup: Setup) -> list[Part]:
    """Return the parts, the most informative first."""
    batches = BATCHES[:1] if setup.is_quick else BATCHES
    parts = [Part("machine", describe_machine, {}), Part("ceilings", measure_ceilings, {})]
    for dtype, memory_format in FORMATS_OF_DTYPES:
        for name in OPERATIONS:
            arguments = {"name": name, "dtype": dtype, "memory_format": memory_format}
            parts.append(Part(f"{name} {dtype} {memory_format}", measure_operation, arguments))
    for cfg in CONFIGURATIONS[1:2] if setup.is_quick else ("paper256", METHOD):
        parts.append(Part(f"launches {cfg}", compare_launches, {"cfg": cfg, "batch_gpu": BATCHES[0]}))
    ratio = {"cfg": METHOD, "baseline": BASELINE, "batch_gpu": batches[-1] if setup.is_quick else COMPARED_BATCH}
    parts.append(Part("ratio", measure_ratio, ratio))
    for batch_gpu in batches:
        for cfg in CONFIGURATIONS:
            parts.append(Part(f"training {cfg} {batch_gpu}", measure_training, {"cfg": cfg, "batch_gpu": batch_gpu}))
    return parts


def run_part(part: Part, setup: Setup, limit_sec: float) -> dict[str, Any]:
    """Return ``{"result": ...}`` or ``{"error": ...}``, and the seconds it took."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, part.measure, setup, part.arguments))
    begin = time.monotonic()
    process.start()
    sender.close()
    try:
        outcome = receiver.recv() if receiver.poll(limit_sec) else {"error": f"took more than {limit_sec:.0f} s"}
    except EOFError:
        process.join()
        outcome = {"error": f"its process ended with exit code {process.exitcode}"}
    process.kill()
    process.join()
    return {**outcome, "sec": round(time.monotonic() - begin, 2)}


def _send_result(sender: Connection, measure: Callable[..., Any], setup: Setup, arguments: dict[str, Any]) -> None:
    try:
        torch.manual_seed(0)
        sender.send({"result": measure(setup, **arguments)})
    except Exception as error:  # whatever it is, other parts go on
        first_line = next(iter(str(error).splitlines()), "")
        sender.send({"error": f"{type(error).__name__}: {first_line}", "traceback": traceback.format_exc()})


@click.command(context_settings={"max_content_width": 120})
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--quick", "is_quick", is_flag=True, help="Tiny sizes, to see whether everything runs.")
@click.option(
    "--minutes", type=click.FloatRange(min=0), default=18, show_default=True, help="When to stop starting parts."
)
@click.option(
    "--out",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("gpu.json"),
    show_default=True,
    help="JSON file.",
)
def main(device: str, is_quick: bool, minutes: float, path: Path) -> None:
    """Measure everything, print a table, and write a JSON file."""
    setup = Setup(torch.device(device), is_quick)
    parts = all_parts(setup)
    outcomes: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + minutes * 60
    for number, part in enumerate(parts, start=1):
        if time.monotonic() < deadline:
            outcomes[part.name] = run_part(part, setup, PART_MINUTES * 60)
        else:
            outcomes[part.name] = {"error": f"left out after {minutes:g} minutes", "sec": 0}
        outcome = outcomes[part.name]
        click.echo(f"[{number}/{len(parts)}] {part.name}: {outcome.get('error', 'ok')}, {outcome['sec']:.0f} s")
        write_json(path, outcomes, indent=1)
    click.echo("\n" + report(outcomes))
    click.echo(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
