"""Labels in ``dataset.json``: ``{"labels": [[path, label], ...]}``, all class numbers or all lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dnnlib.util import UserError
from training.data.archive import Archive

LABELS_FILE = "dataset.json"

Label = int | list[float]


class Labels(NamedTuple):
    """Labels of all images of a dataset, in its order, and what the class numbers mean, where that is known."""

    values: list[Label]
    class_names: list[str] | None = None

    def as_array(self) -> np.ndarray:
        """Class numbers as int64 [N], vectors as float32 [N, D]."""
        return np.array(self.values, dtype=np.int64 if isinstance(self.values[0], int) else np.float32)


def read_labels(archive: Archive, names: Sequence[str]) -> Labels | None:
    """Read the labels of the images ``names``, or None where ``dataset.json`` is missing or lists none.

    Raises:
        UserError: Not the stated form, labels of different kinds, or images without a label.
    """
    if LABELS_FILE not in archive.names:
        return None
    where = f"{archive.path}: {LABELS_FILE}"
    try:
        content = json.loads(archive.read(LABELS_FILE))
    except (OSError, ValueError, RecursionError) as err:
        raise UserError(f"{where} cannot be read as JSON: {err}") from err
    if not isinstance(content, dict):
        raise UserError(f'{where} holds a {type(content).__name__}, allowed is {{"labels": [[path, label], ...]}}')
    if content.get("labels") in (None, []):
        return None
    by_name = _by_name(content["labels"], where)
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(f"{where}: {len(missing)} of {len(names)} images have no label: {some(missing)}")
    return Labels([by_name[name] for name in names], content.get("class_names"))


def labels_from_subfolders(names: Sequence[str]) -> Labels:
    """Number the top-level folders in alphabetical order; an image's label is the number of its folder.

    Raises:
        UserError: Images outside any folder.
    """
    outside = [name for name in names if "/" not in name]
    if outside:
        raise UserError(f"--subfolders-as-labels: {len(outside)} images lie in no subfolder: {some(outside)}")
    class_names = sorted({name.split("/")[0] for name in names})
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    return Labels([numbers[name.split("/")[0]] for name in names], class_names)


def some(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _by_name(entries: Any, where: str) -> dict[str, Label]:
    if not isinstance(entries, list):
        raise UserError(f"{where}: 'labels' is a {type(entries).__name__}, allowed is a list of [path, label]")
    by_name: dict[str, Label] = {}
    first_size = None
    for position, entry in enumerate(entries):
        size = _label_size(entry)
        if size is None:
            raise UserError(
                f"{where}: labels[{position}] is {json.dumps(entry)[:100]}, "
                "allowed is [path, class number from 0] or [path, [number, ...]]"
            )
        first_size = size if first_size is None else first_size
        if size != first_size:
            raise UserError(f"{where}: labels[{position}] is of another kind or length than those before it")
        by_name[entry[0].replace("\\", "/")] = entry[1]  # files written on Windows have backslashes
    if len(by_name) < len(entries):
        raise UserError(f"{where}: {len(entries) - len(by_name)} images are listed more than once")
    return by_name


def _label_size(entry: Any) -> int | None:
    """Length of the vector in [path, vector], 0 for [path, class number], None for anything else."""
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        return None
    label = entry[1]
    if type(label) is int:
        return 0 if 0 <= label < 1 << 31 else None
    if isinstance(label, list) and label and all(type(x) in (int, float) and abs(x) < float("inf") for x in label):
        return len(label)
    return None
