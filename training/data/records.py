"""The JSON files of a dataset: labels, source files and objects of its images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.data.archive_base import OBJECTS_FILE
from training.data.container import Save
from training.data.labels import LABELS_FILE, Label
from training.data.spool import LineSpool, temporary_file

SOURCES_FILE = "sources.jsonl"
"""One line per image: ``{"image": path in the dataset, "file": path in the source}``."""


class Records:
    """Collects the records of all images on disk.

    Args:
        folder: Folder for temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labels, self._objects, self._sources = (LineSpool(folder) for _ in range(3))

    def add(self, name: str, label: Label | None, file: str | None, objects: list[dict[str, Any]] | None) -> None:
        """Add the records of an image; None stands for what is not known.

        Args:
            name: Path in the dataset.
            label: Its label.
            file: Path in the source.
            objects: Objects in it.
        """
        if label is not None:
            self._labels.add(json.dumps([name, label]))
        if file is not None:
            self._sources.add(json.dumps({"image": name, "file": file}))
        if objects is not None:
            self._objects.add(f"{json.dumps(name)}: {json.dumps(objects)}")

    def save(self, save: Save, metadata: Mapping[str, Any], new_numbers: Mapping[int, int] | None) -> None:
        """Write the JSON files.

        Args:
            save: Stores a file in the dataset.
            metadata: What ``dataset.json`` says besides the labels.
            new_numbers: Class number by the class number that was added; None to keep them.
        """
        labels: Iterable[str] = self._labels.lines()
        if new_numbers is not None:
            labels = (json.dumps([name, new_numbers[label]]) for name, label in map(json.loads, labels))
        head, tail = ('{"labels": [', "]") if self._labels.num_lines else ('{"labels": null', "")
        rest = "".join(f", {json.dumps(key)}: {json.dumps(value)}" for key, value in metadata.items())
        self._save_joined(save, LABELS_FILE, head, labels, f"{tail}{rest}}}")
        if self._objects.num_lines:
            self._save_joined(save, OBJECTS_FILE, '{"objects": {', self._objects.lines(), "}}")
        if self._sources.num_lines:
            save(SOURCES_FILE, self._sources.file)

    def close(self) -> None:
        """Delete the records."""
        for spool in (self._labels, self._objects, self._sources):
            spool.close()

    def _save_joined(self, save: Save, name: str, head: str, items: Iterable[str], tail: str) -> None:
        with temporary_file(self._folder) as file:
            file.write(head.encode("ascii"))
            for index, item in enumerate(items):
                file.write((f", {item}" if index else item).encode("ascii"))
            file.write(tail.encode("ascii"))
            save(name, file)
