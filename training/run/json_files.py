"""JSON files of a run folder, which may have been edited or come from elsewhere."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 20
MAX_DIGITS = 100
"""Longest whole number that is accepted: it must fit into a float."""


def read_small_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file without waiting for a pipe or filling the memory.

    Raises:
        OSError: It is missing, is not a regular file, or cannot be read.
        ValueError: It is larger than ``max_bytes``.
    """
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"larger than {max_bytes >> 20} MiB")
    return path.read_bytes()


def read_json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any] | None:
    """Read a JSON object; None if the file is missing, damaged, too large, or holds something else."""
    try:
        value = parse_json(read_small_file(path, max_bytes))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse_json(text: bytes) -> Any:
    """Parse JSON whose numbers must be finite, as others cannot be compared.

    Raises:
        ValueError: It is not JSON, or has other numbers.
        RecursionError: It is nested too deeply.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"it contains {name}")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else refuse(digits[:20])

    def short(digits: str) -> int:
        return int(digits) if len(digits) <= MAX_DIGITS else refuse(f"a number of {len(digits)} digits")

    return json.loads(text, parse_constant=refuse, parse_float=finite, parse_int=short)
