"""Paths in flags, made absolute: they must mean the same wherever the comparison goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.run.lookup import find_network

PATH_FLAGS = ("--data", "--detectors", "--metricdata", "--object-detector", "--resume")
"""Flags of train.py and calc_metrics.py that name files or folders."""


def with_absolute_paths(flags: Sequence[str]) -> list[str]:
    """Return flags with absolute paths; 'latest' and run folders become the snapshot that they mean now.

    Args:
        flags: Words of a command line, ``--flag=value`` or ``--flag value``.

    Raises:
        UserError: ``--resume`` names a run that has saved no networks yet.
    """
    words = []
    for previous, word in zip(["", *flags], flags, strict=False):
        flag, has_value, value = word.partition("=")
        if has_value and flag in PATH_FLAGS:
            words.append(f"{flag}={_absolute(flag, value)}")
        else:
            words.append(_absolute(previous, word) if previous in PATH_FLAGS else word)
    return words


def _absolute(flag: str, value: str) -> str:
    if flag == "--object-detector" and not value.endswith(".onnx"):  # a name
        return value
    path = find_network(value, flag) if flag == "--resume" else value
    return str(Path(path).absolute()) if Path(path).exists() else value  # such as a URL
