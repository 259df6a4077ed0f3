"""Labels in ``dataset.json``: ``{"labels": [[path, label], ...]}``, all class numbers or all lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dnnlib.util import UserError
from training.data.archive import METADATA_FILE, Archive
from training.data.names import MAX_SHOWN_CHARS, shown, some

LABELS_FILE = METADATA_FILE

MAX_CLASSES = 100_000
"""Class numbers are smaller; every class up to the largest number costs the networks an input of 512 weights."""

MAX_ABS_VALUE = 1e9
"""Of the numbers in a vector, whose squares are summed in float32."""

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
        UserError: Not the stated form, labels of different kinds or out of range, or images without a label.
    """
    where = f"{archive.path}: {LABELS_FILE}"
    content = archive.metadata()
    if content.get("labels") in (None, []):
        return None
    by_name = _by_name(content["labels"], where)
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(
            f"{where}: {len(missing)} of {len(names)} images have no label: {some(missing)}; label them, or "
            "take 'labels' out of the file"
        )
    class_names = content.get("class_names")
    if class_names is not None and not (isinstance(class_names, list) and all(type(n) is str for n in class_names)):
        raise UserError(f"{where}: 'class_names' must be a list of strings, or null")
    return Labels([by_name[name] for name in names], class_names)


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


def describe_labels(labels: np.ndarray) -> str:
    """Say in words what the labels are, with the gaps in the class numbers.

    Args:
        labels: Class numbers, int64 [N], or vectors, float32 [N, D].
    """
    if labels.dtype != np.int64:
        return f"vectors of {labels.shape[1]} numbers"
    counts = np.bincount(labels)
    unused = np.flatnonzero(counts == 0)
    text = f"{counts.size} classes with {counts[counts > 0].min()} to {counts.max()} images each"
    if not unused.size:
        return text
    runs = np.split(unused, np.flatnonzero(np.diff(unused) > 1) + 1)
    gaps = [f"{run[0]} to {run[-1]}" if run.size > 1 else f"{run[0]}" for run in runs]
    return f"{text}, but none in {unused.size} of them: {some(gaps)}"


def _by_name(entries: Any, where: str) -> dict[str, Label]:
    if not isinstance(entries, list):
        raise UserError(f"{where}: 'labels' is a {type(entries).__name__}, allowed is a list of [path, label]")
    by_name: dict[str, Label] = {}
    first_size = None
    for position, entry in enumerate(entries):
        size = _label_size(entry)
        if size is None:
            raise UserError(f"{where}: labels[{position}] {_problem(entry)}")
        first_size = size if first_size is None else first_size
        if size != first_size:
            raise UserError(f"{where}: labels[{position}] is of another kind or length than those before it")
        by_name[entry[0].replace("\\", "/")] = entry[1]  # files written on Windows have backslashes
    if len(by_name) < len(entries):
        raise UserError(f"{where}: {len(entries) - len(by_name)} images are listed more than once")
    return by_name


def _label_size(entry: Any) -> int | None:
    """Length of the vector in [path, vector], 0 for [path, class number], None for anything that is not allowed."""
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        return None
    label = entry[1]
    if type(label) is int:
        return 0 if 0 <= label < MAX_CLASSES else None
    if isinstance(label, list) and label and all(map(_is_number, label)):
        return len(label)
    return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_ABS_VALUE


def _problem(entry: Any) -> str:
    """What is wrong with an entry that is not allowed, as the rest of a sentence."""
    label = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if type(label) is int and label >= MAX_CLASSES:
        return (
            f"is class {_brief(label)}, but class numbers must be below {MAX_CLASSES}, because every class up to the "
            "largest number makes the networks larger: number the classes 0, 1, 2, ..."
        )
    if isinstance(label, list) and label:
        wrong = next((value for value in label if not _is_number(value)), None)
        return f"contains {_brief(wrong)}, allowed are numbers from -{MAX_ABS_VALUE:g} to {MAX_ABS_VALUE:g}"
    items = f"[{', '.join(map(_brief, entry[:3]))}]" if isinstance(entry, list) else _brief(entry)
    return f"is {items}, allowed is [path, class number from 0] or [path, [number, ...]]"


def _brief(value: Any) -> str:
    """A value of unknown type as JSON, without what is nested in it."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of length {len(value)}"
    return shown(json.dumps(value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value))
