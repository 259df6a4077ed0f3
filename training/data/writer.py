"""Writing a dataset: every image prepared, encoded and saved under its number, the same bytes for any worker count."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tqdm import tqdm

from dnnlib.atomic import write_atomic
from dnnlib.util import UserError
from training.data.codec import BadImageError, encode_png
from training.data.labels import LABELS_FILE
from training.data.layout import ImageLayout
from training.data.parallel import ordered_map
from training.data.preparation import Preparation, TooSmallError
from training.data.sources import Source

OBJECTS_FILE = "objects.json"

Save = Callable[[str, bytes], None]
"""Stores a file of the dataset under its path."""


@dataclass
class Report:
    """What became of the images.

    Attributes:
        num_written: Images in the dataset.
        layout: Their common size and colours; None if there are none.
        skipped: Name and reason of every image left out.
        listing: JSON lines of them, ``{"file": ..., "reason": ...}``; None if there are none.
    """

    num_written: int = 0
    layout: ImageLayout | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    listing: Path | None = None


def write_dataset(source: Source, dest: Path, preparation: Preparation, skip_bad: bool, num_workers: int) -> Report:
    """Write all images of ``source`` and their labels to a zip or folder, which appears when it is complete.

    ``dataset.json`` also says by which filter images were resized, if any were: scores depend on it. Images left out
    are listed beside the dataset, in ``<dest>.skipped.jsonl``.

    Args:
        source: The images.
        dest: A path that ends in .zip, or a folder; it may not exist yet, empty folders excepted.
        preparation: What is done to every image.
        skip_bad: Leave out images that cannot be used, instead of ending with an error.
        num_workers: Processes that prepare images.

    Raises:
        UserError: ``dest`` exists or cannot be written, an image is bad and ``skip_bad`` is off, or all are.
    """
    report = Report()

    def write(save: Save) -> None:
        _write_images(source, preparation, skip_bad, num_workers, save, report)

    _refuse_existing(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        if dest.suffix.lower() == ".zip":
            write_atomic(dest, lambda file: _write_zip(file, write))
        else:
            _write_folder(dest, write)
        if report.skipped:
            report.listing = dest.with_name(f"{dest.name}.skipped.jsonl")
            write_atomic(report.listing, _json_lines(report.skipped))
    except OSError as err:
        raise UserError(f"{dest} cannot be written: {err.strerror or err}") from err
    return report


class _Prepared(NamedTuple):
    png: bytes
    layout: ImageLayout
    objects: list[dict[str, Any]] | None
    is_resized: bool


@dataclass(frozen=True)
class _PrepareOne:
    """The work of one process: index to encoded image, or why there is none."""

    source: Source
    preparation: Preparation

    def __call__(self, index: int) -> _Prepared | BadImageError:
        try:
            image, objects = self.source.read(index)
            prepared = self.preparation(image)
        except BadImageError as err:
            return err
        return _Prepared(encode_png(prepared), ImageLayout.of(prepared), objects, self.preparation.resizes(image))


def _write_images(
    source: Source, preparation: Preparation, skip_bad: bool, num_workers: int, save: Save, report: Report
) -> None:
    labels, objects, any_resized = [], {}, False
    results = ordered_map(_PrepareOne(source, preparation), len(source.names), num_workers)
    with contextlib.closing(results):
        progress = tqdm(results, total=len(source.names), unit="img", disable=None)
        for index, prepared in _usable(source.names, progress, skip_bad, report):
            name = f"{report.num_written // 1000:05d}/img{report.num_written:08d}.png"
            save(name, prepared.png)
            report.num_written += 1
            any_resized |= prepared.is_resized
            if source.labels is not None:
                labels.append([name, source.labels.values[index]])
            if prepared.objects is not None:
                objects[name] = prepared.objects
    if not report.num_written:
        name, reason = report.skipped[0]
        raise UserError(f"none of the {len(source.names)} images can be used; the first: {name} {reason}")
    contents: dict[str, Any] = {"labels": labels or None}
    if source.labels is not None and source.labels.class_names is not None:
        contents["class_names"] = source.labels.class_names
    if any_resized:
        contents["resize_filter"] = preparation.resize_filter
    save(LABELS_FILE, _json(contents))
    if objects:
        save(OBJECTS_FILE, _json({"objects": objects}))


def _usable(
    names: Sequence[str], results: Iterable[_Prepared | BadImageError], skip_bad: bool, report: Report
) -> Iterator[tuple[int, _Prepared]]:
    """Pass on the images that can be trained on and fit the first of them; note or refuse the others."""
    for index, result in enumerate(results):
        try:
            prepared = _checked(result, report.layout)
        except BadImageError as err:
            if not (skip_bad or isinstance(err, TooSmallError)):
                raise UserError(f"{names[index]} {err} (--on-error=skip leaves such images out)") from err
            report.skipped.append((names[index], str(err)))
        else:
            report.layout = prepared.layout
            yield index, prepared


def _checked(result: _Prepared | BadImageError, first: ImageLayout | None) -> _Prepared:
    if isinstance(result, BadImageError):
        raise result
    if not result.layout.is_trainable:
        raise BadImageError(
            f"gives {result.layout}, no square with a power-of-two side: set --width, --height, --transform"
        )
    if first is not None and result.layout != first:
        option = "--mode" if result.layout.mode != first.mode else "--width and --height"
        raise BadImageError(f"gives {result.layout}, the images before it {first}: set {option}")
    return result


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def _json_lines(skipped: list[tuple[str, str]]) -> bytes:
    return b"".join(_json({"file": name, "reason": reason}) + b"\n" for name, reason in skipped)


def _refuse_existing(dest: Path) -> None:
    is_empty_folder = dest.is_dir() and dest.suffix.lower() != ".zip" and not any(dest.iterdir())
    if dest.exists() and not is_empty_folder:
        raise UserError(f"{dest} exists: delete it or choose another --dest")


def _write_zip(file: BinaryIO, write: Callable[[Save], None]) -> None:
    """Write stored entries without anything that depends on the time or the machine."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def save(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3  # Unix, also when written elsewhere
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)

        write(save)


def _write_folder(dest: Path, write: Callable[[Save], None]) -> None:
    temp = dest.with_name(f".{dest.name}.{secrets.token_hex(4)}.tmp")

    def save(name: str, data: bytes) -> None:
        path = temp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    try:
        write(save)
        with contextlib.suppress(FileNotFoundError):
            dest.rmdir()
        temp.rename(dest)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
