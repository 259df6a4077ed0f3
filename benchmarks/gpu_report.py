"""The tables that ``benchmarks.gpu`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dnnlib.formatting import format_number

Outcomes = Mapping[str, Mapping[str, Any]]
"""By name of the part: its ``result``, or its ``error``."""


def report(outcomes: Outcomes) -> str:
    """Return all tables; parts that failed are listed at the end."""
    results = {name: outcome["result"] for name, outcome in outcomes.items() if "result" in outcome}
    sections = [
        "\n".join(_figures(results)),
        "\n".join(_operations(results)),
        "\n".join(_launches(results)),
        "\n".join(_training(results)),
        "\n".join(f"FAILED {name}: {outcome['error']}" for name, outcome in outcomes.items() if "error" in outcome),
    ]
    return "\n\n".join(section for section in sections if section)


def _figures(results: Mapping[str, Any]) -> Iterator[str]:
    for part in ("machine", "ceilings", "ratio"):
        for name, value in results.get(part, {}).items():
            yield f"{name:28} {format_number(value)}" if isinstance(value, float) else f"{name:28} {value}"


def _operations(results: Mapping[str, Any]) -> Iterator[str]:
    copy_gb_per_sec = results.get("ceilings", {}).get("copy_gb_per_sec", float("nan"))
    yield f"{'operation':36} {'ms':>8} {'GB/s':>8} {'of a copy':>10} {'launches':>9} {'error':>9}"
    for part, directions in results.items():
        for direction, figures in directions.items() if _is_operation(directions) else ():
            share = figures["gb_per_sec"] / copy_gb_per_sec
            yield (
                f"{f'{part} {direction}':36} {figures['sec'] * 1e3:8.3f} {figures['gb_per_sec']:8.0f} {share:10.0%} "
                f"{figures['launches']:9} {figures['error']:9.1e}"
            )


def _is_operation(result: Mapping[str, Any]) -> bool:
    return "gb_per_sec" in result.get("forward", {})


def _launches(results: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'launches':24} {'profiled':>9} {'counted':>9}"
    for part, phases in results.items():
        if part.startswith("launches "):
            for phase, figures in phases.items():
                yield f"{part.removeprefix('launches ')} {phase:10} {figures['profiled']:9} {figures['counted']:9.0f}"


def _training(results: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'training (images per pass)':28} {'s/kimg':>8} {'peak GiB':>9}"
    for part, figures in results.items():
        if part.startswith("training "):
            peak = f"{figures['peak_gib']:9.2f}" if "peak_gib" in figures else f"{'-':>9}"
            yield f"{part.removeprefix('training '):28} {figures['sec_per_kimg']:8.2f} {peak}"
