"""Finding every damaged or odd file of a dataset before training does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from dnnlib.util import UserError
from training.data.archive import Archive, open_archive
from training.data.codec import BadImageError, image_names, load_image, read_image
from training.data.labels import read_labels
from training.data.layout import ImageLayout, mend
from training.data.parallel import ordered_map


@dataclass(frozen=True)
class _DecodeOne:
    """The work of one process: index to layout of the fully decoded image, or what is wrong with it."""

    archive: Archive
    names: Sequence[str]

    def __call__(self, index: int) -> ImageLayout | BadImageError:
        try:
            return ImageLayout.of(load_image(read_image(self.archive, self.names[index])))
        except BadImageError as err:
            return err


def bad_images(path: str, num_workers: int) -> Iterator[tuple[str, str]]:
    """Decode every image of a folder or zip and yield the name and the fault of each that training would not take.

    Images that differ from the first are bad too, unless the first cannot be trained on itself: then the folder is
    not a prepared dataset, which is one fault of the first.

    Raises:
        UserError: Nothing to verify, a refused zip, or faulty labels.
    """
    archive = open_archive(path)
    names = image_names(archive)
    if not names:
        raise UserError(f"{path}: no image files found")
    read_labels(archive, names)
    first: ImageLayout | None = None
    results = ordered_map(_DecodeOne(archive, names), len(names), num_workers)
    progress = tqdm(results, total=len(names), unit="img", disable=None)
    for name, result in zip(names, progress, strict=True):
        if isinstance(result, BadImageError):
            yield name, str(result)
        elif first is None:
            first = result
            if not first.is_trainable:
                yield name, f"is {first}; {mend(archive, first, first)}"
        elif first.is_trainable and result != first:
            yield name, f"is {result}, the first image {first}"
