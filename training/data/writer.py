"""Writing a dataset: the bytes do not depend on the number of processes, nor memory on the number of images."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dnnlib.atomic import write_atomic
from dnnlib.errors import UserError
from dnnlib.formatting import plural
from dnnlib.heartbeat import heartbeat
from training.data.codec import MAX_IMAGE_PX, BadImageError, encode_uncompressed_png
from training.data.container import Save, create_dataset, real_path
from training.data.layout import ImageLayout
from training.data.names import shown
from training.data.parallel import ordered_map
from training.data.preparation import Preparation, Resizing, TooSmallError, value_range
from training.data.progress import show_progress
from training.data.records import Records
from training.data.report import Report
from training.data.sources import MAX_PHOTO_PX, Item, LargeImageError, Read, Source
from training.data.spool import LineSpool, copy_content


def write_dataset(source: Source, dest: Path, preparation: Preparation, skip_bad: bool, num_workers: int) -> Report:
    """Write all images of ``source`` to a zip or folder, which appears when it is complete.

    Besides the images it contains ``dataset.json`` with their labels and, if any image was resized, the resize filter,
    on which metrics depend; and the files described in `training.data.records`. Images left out are listed beside the
    dataset, in ``<dest>.skipped.jsonl``, as ``{"file": path in the source, "reason": text}``; if there are none, such a
    list of an earlier dataset is deleted.

    Args:
        source: The images.
        dest: A path that `training.data.container.check_dest` accepts.
        preparation: Conversion applied to every image.
        skip_bad: Leave out images that cannot be used, instead of ending with an error.
        num_workers: Number of processes that prepare images.

    Raises:
        UserError: ``dest`` cannot be written, an image cannot be used and ``skip_bad`` is off, no image can, or most of
            them need other options.
        SystemExit: As `training.data.container.create_dataset`.
    """
    place = real_path(dest)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(_Writer(source, preparation, skip_bad, num_workers, place.parent)) as writer:
            with heartbeat(lambda: f"Still storing {dest} ..." if writer.has_all_images else None):
                create_dataset(place, writer.write)
            writer.write_listing(place.with_name(f"{place.name}.skipped.jsonl"))
    except OSError as err:
        raise UserError(f"{dest} cannot be written: {err.strerror or err}") from err
    return writer.report


class _MisfitError(BadImageError):
    """A good image that needs another size or mode."""


class _Prepared(NamedTuple):
    png: bytes
    layout: ImageLayout
    objects: list[dict[str, Any]] | None
    resizing: Resizing
    values: tuple[int, int]
    values_16_bit: tuple[int, int] | None


@dataclass(frozen=True)
class _PrepareOne:
    """The work of one process: from the key of an image to the encoded image, or to why there is none."""

    read: Read
    preparation: Preparation
    max_px: int

    def __call__(self, key: Any) -> _Prepared | BadImageError:
        try:
            image, objects = self.read(key, self.max_px)
            values_16_bit = value_range(image) if image.mode.startswith("I;16") else None
            prepared = self.preparation(image)
            resizing = self.preparation.resizing(image.size)
        except BadImageError as err:
            return err
        layout, values = ImageLayout.of(prepared), value_range(prepared)
        return _Prepared(encode_uncompressed_png(prepared), layout, objects, resizing, values, values_16_bit)


class _Writer:
    """Writes the files of a dataset and fills a report.

    Attributes:
        report: What happened.
        has_all_images: Whether all images have been written, so that only the disk is busy.
    """

    def __init__(
        self, source: Source, preparation: Preparation, skip_bad: bool, num_workers: int, temp_folder: Path
    ) -> None:
        self._source = source
        self._preparation = preparation
        self._skip_bad = skip_bad
        self._num_workers = num_workers
        self._records = Records(temp_folder)
        self._any_resized = False
        self.has_all_images = False
        self._skipped = LineSpool(temp_folder)
        self._num_misfits = 0
        self._first_misfit = ""
        self.report = Report(
            class_names=None if source.labels is None else source.labels.class_names,
            folders_without_images=list(source.folders_without_images),
            unread_labels=source.unread_labels,
        )
        self.report.add_ignored(source.ignored)

    def write(self, save: Save) -> None:
        """Write all files of the dataset."""
        with contextlib.closing(self._usable()) as images:
            for index, item, prepared in images:
                self._add(save, index, item, prepared)
        self.has_all_images = True
        if not self.report.num_written:
            first = next(iter(self.report.skipped.values()))
            where = f"{shown(first.names[0])} {first.text}"
            raise UserError(f"none of the {plural(self._source.num_images, 'image')} can be used; the first: {where}")
        self._check_misfits(self.report.num_written)
        new_numbers = self.report.drop_empty_classes() if self._source.has_own_classes else None
        self._records.save(save, self._metadata(), new_numbers)

    def write_listing(self, path: Path) -> None:
        """List the images that were left out, or delete a list of others if there are none."""
        if self._skipped.num_lines:
            write_atomic(path, lambda file: copy_content(self._skipped.file, file))
            self.report.listing = path
        else:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete temporary files."""
        self._skipped.close()
        self._records.close()

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        if self.report.class_names is not None:
            metadata["class_names"] = self.report.class_names
        if self._any_resized:
            metadata["resize_filter"] = self._preparation.resize_filter
        return metadata

    def _usable(self) -> Generator[tuple[int, Item, _Prepared], None, None]:
        """Yield the images that can be trained on and match the first of them; note or refuse the others."""
        with contextlib.closing(show_progress(self._results(), "Preparing images", self._source.num_images)) as results:
            for index, (item, result) in enumerate(results):
                try:
                    prepared = _checked(result, self.report.layout)
                except BadImageError as err:
                    self._skip(item.name, err)
                else:
                    self.report.layout = prepared.layout
                    yield index, item, prepared

    def _results(self) -> Generator[tuple[Item, _Prepared | BadImageError], None, None]:
        """Yield all images in order. Large ones are prepared in this process, one at a time, to bound memory."""
        prepare = _PrepareOne(self._source.read, self._preparation, MAX_IMAGE_PX)
        prepare_large = dataclasses.replace(prepare, max_px=MAX_PHOTO_PX)
        keys = (item.key for item in self._source.items())
        with contextlib.closing(ordered_map(prepare, keys, self._num_workers)) as results:
            for item, result in zip(self._source.items(), results, strict=True):
                yield item, prepare_large(item.key) if isinstance(result, LargeImageError) else result

    def _skip(self, name: str, err: BadImageError) -> None:
        if not (self._skip_bad or isinstance(err, TooSmallError)):
            raise UserError(f"{shown(name)} {err} (--on-error=skip leaves such images out)") from err
        self._skipped.add(json.dumps({"file": name, "reason": str(err)}))
        self.report.add_skipped(name, str(err))
        if isinstance(err, _MisfitError):
            self._num_misfits += 1
            self._first_misfit = self._first_misfit or f"{shown(name)} {err}"
            self._check_misfits(self._source.num_images // 2)

    def _check_misfits(self, max_misfits: int) -> None:
        # The first image decides on size and mode: if it is the odd one, nearly all others would be left out.
        if self._num_misfits > max_misfits:
            raise UserError(f"more images would be left out than kept; the first of them: {self._first_misfit}")

    def _add(self, save: Save, index: int, item: Item, prepared: _Prepared) -> None:
        report, source = self.report, self._source
        name = f"{report.num_written // 1000:05d}/img{report.num_written:08d}.png"
        save(name, io.BytesIO(prepared.png))
        label = None if source.labels is None else source.labels[index]
        self._records.add(name, label, item.name if source.has_files else None, prepared.objects)
        self._any_resized |= prepared.resizing.is_needed
        report.num_written += 1
        if isinstance(label, int):
            report.class_counts[label] += 1
        elif label is not None:
            report.label_size = len(label)
        report.add_resizing(item.name, prepared.resizing)
        report.values.add(prepared.values)
        if prepared.values_16_bit is not None:
            report.values_16_bit.add(prepared.values_16_bit)


def _checked(result: _Prepared | BadImageError, first: ImageLayout | None) -> _Prepared:
    if isinstance(result, BadImageError):
        raise result
    if not result.layout.is_trainable:
        raise _MisfitError(
            f"would be {result.layout}, but training needs squares with a power-of-two side: set --width, --height and "
            "--transform"
        )
    if first is not None and result.layout != first:
        option = "--mode=rgb or --mode=grey" if result.layout.mode != first.mode else "--width and --height"
        raise _MisfitError(f"would be {result.layout}, but the images before it are {first}: set {option}")
    return result
