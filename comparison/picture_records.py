"""The record beside a picture: which snapshot it shows and how it was drawn. It is written last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dnnlib.json_file import write_json
from training.run.json_files import read_json_object


def record_file(picture: Path) -> Path:
    """Return the file with the record of a picture."""
    return picture.with_suffix(".json")


def read_record(picture: Path) -> dict[str, Any] | None:
    """Read the record of a picture; None if it is missing or damaged."""
    return read_json_object(record_file(picture))


def write_record(picture: Path, record: dict[str, Any]) -> None:
    """Write the record of a picture.

    Raises:
        OSError: The file cannot be written.
    """
    write_json(record_file(picture), record)
