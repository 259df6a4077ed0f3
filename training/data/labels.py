"""Labels in ``dataset.json``: ``{"labels": [[path, label], ...]}``, all class numbers or all lists of numbers."""

from __future__ import annotations

import array
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.commands import how_to_run
from dnnlib.errors import UserError
from dnnlib.formatting import plural
from training.data.archive_base import LABELS, METADATA_FILE, Archive
from training.data.json_stream import JsonStream
from training.data.names import (
    MAX_SHOWN_CHARS,
    MAX_SHOWN_NAMES,
    Names,
    comparable,
    is_hidden,
    listed_path,
    shown,
    some,
    split_folder,
)

LABELS_FILE = METADATA_FILE

MAX_CLASSES = 100_000
"""Class numbers are smaller; every class up to the largest number costs the networks an input of 512 weights."""

MAX_DIGITS = 100
"""Longer names of folders are not taken for numbers."""

MAX_ABS_VALUE = 1e9
"""Largest absolute value of the numbers in a vector, whose squares are summed in float32."""

Label = int | list[float]


@dataclass(frozen=True)
class Labels:
    """Labels of all images of a dataset, in its order, and what the class numbers mean, where that is known.

    Attributes:
        values: Class numbers, int64 [N], or vectors, float64 [N, D].
        class_names: Their names.
    """

    values: np.ndarray
    class_names: list[str] | None = None

    def __getitem__(self, index: int) -> Label:
        """Return the label of an image; whole numbers in vectors as int."""
        value = self.values[index].tolist()
        if isinstance(value, int):
            return value
        return [int(number) if number.is_integer() else number for number in value]

    def as_array(self) -> np.ndarray:
        """Return the class numbers as int64 [N], vectors as float32 [N, D]."""
        return self.values if self.values.ndim == 1 else self.values.astype(np.float32)


def read_labels(archive: Archive, names: Sequence[str]) -> Labels | None:
    """Read the labels of the images ``names``, or None where ``dataset.json`` is missing or lists none.

    `Archive.find_record` says where it may lie; the paths in it are relative to its folder.

    Raises:
        UserError: Not the stated form, labels of different kinds or out of range, or images without a label.
    """
    file = archive.find_record(LABELS_FILE)
    if file is None:
        return None
    where, folder = f"{archive.path}: {shown(file)}", split_folder(file)[0]
    content = archive.metadata(lambda stream: _collect(stream, where, folder))
    collected: _Collector | None = content.get(LABELS)
    if collected is None:
        return None
    values = collected.values(names)
    class_names = content.get("class_names")
    if class_names is not None and not (isinstance(class_names, list) and all(type(n) is str for n in class_names)):
        raise UserError(f"{where}: 'class_names' must be a list of strings, or null")
    return Labels(values, class_names)


def unread_labels(archive: Archive) -> str | None:
    """Say which ``dataset.json`` is not read, or lists nothing under "labels"; None if one does, or none is there.

    Raises:
        UserError: It cannot be read.
    """
    read = archive.find_record(LABELS_FILE)
    if read is not None:
        return None if LABELS in archive.metadata() else f"{shown(read)} has no 'labels', so that no image has a label"
    similar = archive.names.select(np.flatnonzero(archive.names.ending_with(f"/{LABELS_FILE}".encode())))
    found = next((name for name in similar if not is_hidden(name)), None)
    return found and (
        f"the labels in {shown(found)} are not read, because not all files lie in its folder: move it to the top "
        "folder, with paths from there"
    )


def class_folder(names: Names) -> str:
    """Return the folder whose subfolders are classes: the top folder, or the one in whose subfolders all images lie.

    Args:
        names: All images.
    """
    folder = names.common_folder()
    return folder if all("/" in name.removeprefix(folder) for name in names) else ""


def labels_from_subfolders(names: Sequence[str], folder: str = "") -> Labels:
    """Number the subfolders of ``folder`` in alphabetical order; an image's label is the number of its subfolder.

    Subfolders that are named by numbers come in the order of these, so that 0, 1, ... keep theirs.

    Args:
        names: The images, all in ``folder``.
        folder: A `class_folder`.

    Raises:
        UserError: Images outside any folder.
    """
    outside = [name for name in names if "/" not in name]
    if outside:
        raise UserError(
            f"the class of an image is its subfolder, and {len(outside)} of {len(names)} lie in none: {some(outside)}; "
            f"move them into one, or do without classes ({how_to_run('dataset_tool.py')} without "
            f"--subfolders-as-labels, {how_to_run('train.py')} with --cond=0)"
        )
    subfolders = [name.removeprefix(folder).split("/")[0] for name in names]
    class_names = sorted({*subfolders})
    if all(name.isdecimal() and len(name) <= MAX_DIGITS for name in class_names):
        class_names.sort(key=int)
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    values = np.fromiter((numbers[subfolder] for subfolder in subfolders), np.int64, len(names))
    return Labels(values, class_names)


def label_width(labels: np.ndarray) -> int:
    """Return the number of classes, or length of the vectors.

    Args:
        labels: Class numbers, int64 [N], or vectors, float32 [N, D].
    """
    return int(labels.max()) + 1 if labels.dtype == np.int64 else labels.shape[1]


def rank_labels(labels: Iterable[np.ndarray]) -> np.ndarray:
    """Number labels in the order of their bytes from 0, int64 [N]; equal labels have equal numbers."""
    seen: dict[bytes, int] = {}
    numbers = np.array([seen.setdefault(label.tobytes(), len(seen)) for label in labels], np.int64)
    ranks = np.empty(len(seen), np.int64)
    ranks[[seen[key] for key in sorted(seen)]] = np.arange(len(seen))
    return ranks[numbers]


def describe_labels(labels: np.ndarray) -> str:
    """Say in words what the labels are, with the gaps in the class numbers.

    Args:
        labels: Class numbers, int64 [N], or vectors, float32 [N, D].
    """
    if labels.dtype != np.int64:
        return f"vectors of {plural(labels.shape[1], 'number')}"
    counts = np.bincount(labels)
    unused = np.flatnonzero(counts == 0)
    text = f"{plural(counts.size, 'class')} with {images_each(int(counts[counts > 0].min()), int(counts.max()))}"
    if not unused.size:
        return text
    runs = np.split(unused, np.flatnonzero(np.diff(unused) > 1) + 1)
    gaps = [f"{run[0]} to {run[-1]}" if run.size > 1 else f"{run[0]}" for run in runs]
    return f"{text}, but none in {unused.size} of them: {some(gaps)}"


def images_each(smallest: int, largest: int) -> str:
    """Say how many images the classes have: '1 image each', '1 to 2 images each'."""
    if smallest < largest:
        return f"{smallest} to {largest} images each"
    return f"{plural(largest, 'image')} each"


def _collect(stream: JsonStream, where: str, folder: str) -> _Collector | None:
    """Take the value of "labels"; None if it lists none."""
    if stream.next_char() != "[":
        value = stream.value()
        if value is None:
            return None
        raise UserError(f"{where}: 'labels' is a {type(value).__name__}, allowed: a list of [path, label]")
    collected = _Collector(where, folder)
    for entry in stream.items():
        collected.add(entry)
    return collected if collected.num_entries else None


class _Collector:
    """Collects labels as numbers, and paths as 64-bit hashes, which nobody can make collide.

    Args:
        where: The file, for errors.
        folder: What the paths are relative to, with a slash at the end.

    Attributes:
        num_entries: Number of entries so far.
    """

    def __init__(self, where: str, folder: str) -> None:
        self._where = where
        self._folder = folder
        self._first_path = ""
        self.num_entries = 0
        self._label_size = -1
        self._numbers = array.array("d")
        self._hashes = array.array("q")

    def add(self, entry: Any) -> None:
        """Add an entry of the list.

        Raises:
            UserError: It is not allowed, or of another kind than those before it.
        """
        size = _label_size(entry)
        if size is None:
            raise UserError(f"{self._where}: labels[{self.num_entries}] {_problem(entry)}")
        if self._label_size not in (-1, size):
            raise UserError(
                f"{self._where}: labels[{self.num_entries}] is of another kind or length than those before it"
            )
        self._label_size = size
        self.num_entries += 1
        path = listed_path(entry[0])
        self._first_path = self._first_path or path
        self._hashes.append(hash(comparable(self._folder + path)))
        if size:
            self._numbers.extend(entry[1])
        else:
            self._numbers.append(entry[1])

    def values(self, names: Sequence[str]) -> np.ndarray:
        """Return the labels of the images ``names``: class numbers, int64 [N], or vectors, float64 [N, D].

        Raises:
            UserError: Images are listed more than once, or not at all.
        """
        rows, num_repeated = _find(names, np.frombuffer(self._hashes, np.int64))
        if num_repeated:
            raise UserError(f"{self._where}: {num_repeated} of {len(names)} images are listed more than once")
        missing = np.flatnonzero(rows < 0)
        if missing.size:
            few = [names[index] for index in missing[: MAX_SHOWN_NAMES + 1].tolist()]
            raise UserError(
                f"{self._where}: {missing.size} of {rows.size} images have no label: {some(few)}; label "
                f"them, by paths from the folder of the file (it begins with {shown(self._first_path)}), or take "
                "'labels' out of it"
            )
        numbers = np.frombuffer(self._numbers, np.float64)
        if not self._label_size:
            return numbers[rows].astype(np.int64)
        vectors = numbers.reshape(-1, self._label_size)
        return vectors if np.array_equal(rows, np.arange(len(vectors))) else vectors[rows]


def _find(names: Sequence[str], hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """Find names by their hashes.

    Returns:
        For each name the position of its hash, -1 where it is missing; and how many hashes are repetitions.
    """
    order = np.argsort(hashes)
    hashes = hashes[order]
    wanted = np.fromiter((hash(comparable(name)) for name in names), np.int64, len(names))
    at = np.minimum(np.searchsorted(hashes, wanted), hashes.size - 1)
    rows = np.where(hashes[at] == wanted, order[at], -1)
    return rows, int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def _label_size(entry: Any) -> int | None:
    """Return the length of the vector in [path, vector], 0 for [path, class number], None for what is not allowed."""
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
    """Return what is wrong with an entry that is not allowed, as the rest of a sentence."""
    label = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if type(label) is int and label >= MAX_CLASSES:
        return (
            f"is class {_brief(label)}, but class numbers must be below {MAX_CLASSES}, because every class up to the "
            "largest number makes the networks larger: number the classes 0, 1, 2, ..."
        )
    if isinstance(label, list) and label:
        wrong = next((value for value in label if not _is_number(value)), None)
        return f"contains {_brief(wrong)}, allowed: numbers from -{MAX_ABS_VALUE:g} to {MAX_ABS_VALUE:g}"
    items = f"[{', '.join(map(_brief, entry[:3]))}]" if isinstance(entry, list) else _brief(entry)
    return f"is {items}, allowed: [path, class number from 0] or [path, [number, ...]]"


def _brief(value: Any) -> str:
    """Return a value of unknown type as JSON, without what is nested in it."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of length {len(value)}"
    return shown(json.dumps(value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value))
