"""Verification of a dataset: every image is decoded, so that training meets no damaged or odd one."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from dnnlib.heartbeat import heartbeat
from training.data.archive import open_archive
from training.data.archive_base import Archive
from training.data.codec import BadImageError, load_image, read_image, require_images
from training.data.labels import read_labels
from training.data.layout import ImageLayout, preparation_command
from training.data.names import shown
from training.data.parallel import ordered_map
from training.data.progress import show_progress


def verify(path: str, num_workers: int, report: Callable[[str], None]) -> int:
    """Decode every image of a folder or zip and return how many there are.

    Images that differ from the first one are bad as well, unless the first one cannot be trained on itself: such a
    folder is not a prepared dataset, which is one error for the whole of it.

    Args:
        path: The folder or zip.
        num_workers: Number of processes that decode images.
        report: Receives one line for each bad image.

    Raises:
        UserError: There are no images, the zip is refused, labels are faulty, images are bad, or they are not prepared.
    """
    with heartbeat(lambda: f"Still reading {path} ..."):
        archive = open_archive(path)
        names = require_images(archive)
        read_labels(archive, names)
    layouts = _Layouts()
    num_bad = 0
    for name, result in _decode_all(archive, names, num_workers):
        fault = layouts.add(result) if isinstance(result, ImageLayout) else str(result)
        if fault is not None:
            num_bad += 1
            report(f"{shown(name)} {fault}")
    bad = f"{plural(num_bad, 'bad image')} among {len(names)}" if num_bad else None
    if layouts.first is not None and not layouts.first.is_trainable:
        advice = "; ".join(filter(None, [str(layouts), bad, layouts.advice(archive)]))
        raise UserError(f"{path} is not a prepared dataset: {advice}")
    if bad:
        raise UserError(f"{path}: {bad}")
    return len(names)


def _decode_all(
    archive: Archive, names: Sequence[str], num_workers: int
) -> Iterator[tuple[str, ImageLayout | BadImageError]]:
    """Yield the name of each image, and the result of `_decode`."""
    indexed = (names[index] for index in range(len(names)))
    with contextlib.closing(ordered_map(functools.partial(_decode, archive), indexed, num_workers)) as decoded:
        results = show_progress(decoded, "Decoding images", len(names))
        yield from ((names[index], result) for index, result in enumerate(results))


def _decode(archive: Archive, name: str) -> ImageLayout | BadImageError:
    """Return the layout of a fully decoded image, or what is wrong with it."""
    try:
        return ImageLayout.of(load_image(read_image(archive, name)))
    except BadImageError as err:
        return err


class _Layouts:
    """The layouts of all images.

    Attributes:
        first: Layout of the first image; None if there is none yet.
    """

    def __init__(self) -> None:
        self.first: ImageLayout | None = None
        self._first_oblong: ImageLayout | None = None
        self._areas_px: list[tuple[int, ImageLayout]] = []
        self._modes: set[str] = set()

    def add(self, layout: ImageLayout) -> str | None:
        """Include an image; return what is wrong with it."""
        self.first = self.first or layout
        if layout.width != layout.height:
            self._first_oblong = self._first_oblong or layout
        areas_px = sorted([*self._areas_px, (layout.width * layout.height, layout)])
        self._areas_px = [areas_px[0], areas_px[-1]]
        self._modes.add(layout.mode)
        if layout == self.first or not self.first.is_trainable:
            return None
        return f"is {layout}, the first image is {self.first}"

    def __str__(self) -> str:
        (_, smallest), (_, largest) = self._areas_px
        return f"its images are {smallest}" if smallest == largest else f"its images range from {smallest} to {largest}"

    def advice(self, archive: Archive) -> str:
        """Return the ``dataset_tool.py`` command that prepares the images."""
        assert self.first is not None
        wrong = self._first_oblong or self.first
        if len(self._modes) > 1:
            wrong = wrong._replace(mode=next(mode for mode in sorted(self._modes) if mode != self.first.mode))
        return preparation_command(archive, wrong, self.first)
