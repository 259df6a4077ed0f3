"""Files with one JSON value."""

from __future__ import annotations

import json
import os
from typing import Any

from dnnlib.atomic import write_atomic


def encode_json(value: Any, indent: int | None = None) -> bytes:
    """Return the content of a file with a JSON value: the value and a line feed.

    Args:
        value: The value.
        indent: Spaces per level; None writes one line.
    """
    return (json.dumps(value, indent=indent) + "\n").encode()


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """Write a file with a JSON value, as `write_atomic` does.

    Args:
        path: The file. Its folder must exist.
        value: The value.
        indent: As for `encode_json`.

    Raises:
        OSError: The file cannot be written.
    """
    write_atomic(path, encode_json(value, indent))
