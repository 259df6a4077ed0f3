"""Files with one JSON value."""

from __future__ import annotations

import json
import os
from typing import Any

from dnnlib.atomic import write_atomic


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """Write a JSON value and a line feed, as `write_atomic` does.

    Args:
        path: The file. Its folder must exist.
        value: The value.
        indent: Spaces per level; None writes one line.

    Raises:
        OSError: The file cannot be written.
    """
    write_atomic(path, (json.dumps(value, indent=indent) + "\n").encode())
