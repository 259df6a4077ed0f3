"""The objects in the images of a dataset, from its ``objects.json``."""

from __future__ import annotations

import array
from typing import Any

import numpy as np

from dnnlib.errors import UserError
from training.data.archive_base import OBJECTS_FILE, Archive
from training.data.json_stream import JsonStream
from training.data.names import comparable, listed_path, shown, split_folder

NUM_EDGES = 4


class Objects:
    """Objects by image, kept as numbers, and the names of images as 64-bit hashes."""

    def __init__(self) -> None:
        self._categories: dict[str, int] = {}
        self._labels = array.array("i")
        self._edges = array.array("d")
        self._hashes = array.array("q")
        self._ends = array.array("q")

    def begin_image(self, name: str) -> None:
        """Begin the list of objects of an image."""
        self._hashes.append(hash(comparable(name)))
        self._ends.append(len(self._labels))

    def add(self, category: str, box: list[float]) -> None:
        """Add an object to the image that was begun last."""
        self._labels.append(self._categories.setdefault(category, len(self._categories)))
        self._edges.extend(box)
        self._ends[-1] += 1

    def get(self, name: str) -> list[dict[str, Any]] | None:
        """Return the objects of an image as in the file; None if it is not listed."""
        found = np.flatnonzero(np.asarray(self._hashes) == hash(comparable(name)))
        if found.size == 0:
            return None
        image = int(found[0])
        categories = list(self._categories)
        return [
            {
                "category": categories[self._labels[i]],
                "box": list(self._edges[NUM_EDGES * i : NUM_EDGES * (i + 1)]),
            }
            for i in range(self._ends[image - 1] if image else 0, self._ends[image])
        ]


def read_objects(archive: Archive) -> Objects | None:
    """Read the objects of all images: a list of ``{"category": str, "box": [x0, y0, x1, y1]}`` (pixels) by file name.

    Raises:
        UserError: The file is damaged, or of another form.
    """
    file = archive.find_record(OBJECTS_FILE)
    if file is None:
        return None
    where = f"{archive.path}: {shown(file)}"
    try:
        objects = _collect(JsonStream(archive.read(file)), split_folder(file)[0])
    except (OSError, ValueError, RecursionError) as err:
        raise UserError(f"{where} cannot be read as JSON: {err}") from err
    if objects is None:
        raise UserError(
            f'{where} must be {{"objects": {{name: [{{"category": string, "box": [x0, y0, x1, y1]}}, ...], ...}}}}; '
            "delete the file to do without true boxes"
        )
    return objects


def _collect(stream: JsonStream, folder: str) -> Objects | None:
    """Take the whole text; None if it is not of the form. Names are relative to ``folder``."""
    objects = None
    if stream.next_char() != "{":
        stream.skip()
        stream.end()
        return None
    for key in stream.object_keys():
        if key != "objects":
            stream.skip()
        elif stream.next_char() != "{" or (objects := _collect_images(stream, folder)) is None:
            return None
    stream.end()
    return objects


def _collect_images(stream: JsonStream, folder: str) -> Objects | None:
    objects = Objects()
    for name in stream.object_keys():
        if stream.next_char() != "[":
            return None
        objects.begin_image(folder + listed_path(name))
        for one in stream.items():
            if not _is_object(one):
                return None
            objects.add(one["category"], one["box"])
    return objects


def _is_object(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("category"), str) and _is_box(one.get("box"))


def _is_box(box: Any) -> bool:
    if not (isinstance(box, list) and len(box) == NUM_EDGES and all(type(edge) in (int, float) for edge in box)):
        return False
    return -1e6 < box[0] < box[2] < 1e6 and -1e6 < box[1] < box[3] < 1e6
