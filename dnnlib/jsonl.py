"""Files with a JSON object on each line, such as stats.jsonl, read while another process may be writing them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_LINE_BYTES = 1 << 22
MAX_VALUE = 1e30
"""Larger values are taken for infinite: axes cannot show them."""


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and content of each line; there are none if the file is missing.

    A line that is damaged, such as one that was being written when its process was killed, is passed over, and so is
    one of more than `MAX_LINE_BYTES`.
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(_short_lines(file), start=1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield number, record


def _short_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield each line, an empty one in place of a line that is too long, which is never in memory as a whole."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        is_short = len(line) <= MAX_LINE_BYTES
        yield line if is_short else b""
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)


def finite(value: Any) -> float | None:
    """Return a number of at most `MAX_VALUE` as float, None for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= MAX_VALUE else None
