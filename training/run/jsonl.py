"""Files with a JSON object on each line, such as stats.jsonl, read while another process may be writing them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 1 << 22


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and content of each line; there are none if the file is missing.

    A line that is damaged, such as one that was being written when its process was killed, is passed over.
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if len(line) > MAX_LINE_BYTES:
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield number, record
