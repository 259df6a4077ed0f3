"""What happened to the images and other files of a source, in constant memory."""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from training.data.codec import HEIF_EXTENSIONS, NOT_AN_IMAGE, RAW_EXTENSIONS
from training.data.layout import ImageLayout
from training.data.preparation import Resizing

MAX_EXAMPLES = 3
"""Number of names kept for each group."""

MAX_GROUPS = 12
"""Number of groups told apart; everything beyond them forms one more group."""


@dataclass
class Group:
    """Similar files: a description, how many there are, and the names of the first few."""

    text: str
    count: int = 0
    names: list[str] = field(default_factory=list)


class Groups(dict[str, Group]):
    """Groups of files by a key."""

    def add(self, key: str, text: str, name: str) -> None:
        """Add a file; the first one of a group decides the text of the group."""
        if key not in self and len(self) >= MAX_GROUPS:
            key = text = "other reasons"
        group = self.setdefault(key, Group(text))
        group.count += 1
        if len(group.names) < MAX_EXAMPLES:
            group.names.append(name)

    @property
    def num_files(self) -> int:
        """Number of files in all groups."""
        return sum(group.count for group in self.values())


@dataclass
class Extreme:
    """Images to which a factor above 1 applies: how many, the largest factor, and the image it applies to."""

    count: int = 0
    factor: float = 1.0
    name: str = ""

    def add(self, name: str, factor: float) -> None:
        """Include an image."""
        self.count += factor > 1
        if factor > self.factor:
            self.factor, self.name = factor, name

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass
class ValueRange:
    """Lowest and highest pixel value of many images; ``low`` > ``high`` if there are none."""

    low: int = 1 << 16
    high: int = -1

    def add(self, low_high: tuple[int, int]) -> None:
        """Include the range of an image."""
        self.low, self.high = min(self.low, low_high[0]), max(self.high, low_high[1])


@dataclass
class Report:
    """What happened to the images.

    Attributes:
        ignored: Files that are not images, by reason and extension.
        num_heif: Number of HEIF images among them that could be read.
        num_raw: Number of raw photographs among them.
        num_written: Number of images in the dataset.
        layout: Their common size and mode; None if there are none.
        skipped: Images left out, by reason.
        listing: File that names all of them; None if there are none.
        class_counts: Number of images by class number; empty if labels are vectors or missing.
        class_names: Names of the classes, if they are known.
        label_size: Length of the labels if they are vectors, else 0.
        folders_without_images: Folders that are not classes because none of their images can be used.
        unread_labels: Which labels do not count, in a sentence.
        enlarged: Images that were enlarged.
        stretched: Images whose aspect ratio changed.
        values: Range of the 8-bit pixel values in the dataset.
        values_16_bit: Range of the pixel values of 16-bit grey images before conversion.
    """

    ignored: Groups = field(default_factory=Groups)
    num_heif: int = 0
    num_raw: int = 0
    num_written: int = 0
    layout: ImageLayout | None = None
    skipped: Groups = field(default_factory=Groups)
    listing: Path | None = None
    class_counts: collections.Counter[int] = field(default_factory=collections.Counter)
    class_names: list[str] | None = None
    label_size: int = 0
    folders_without_images: list[str] = field(default_factory=list)
    unread_labels: str | None = None
    enlarged: Extreme = field(default_factory=Extreme)
    stretched: Extreme = field(default_factory=Extreme)
    values: ValueRange = field(default_factory=ValueRange)
    values_16_bit: ValueRange = field(default_factory=ValueRange)

    def add_ignored(self, files: Mapping[str, Sequence[str]]) -> None:
        """Count ignored files, given as names by reason."""
        for reason, names in files.items():
            for name in names:
                extension = PurePosixPath(name).suffix.lower()
                self.ignored.add(f"{reason} {extension}", f"{reason} ({extension or 'no extension'})", name)
                self.num_heif += reason == NOT_AN_IMAGE and extension in HEIF_EXTENSIONS
                self.num_raw += reason == NOT_AN_IMAGE and extension in RAW_EXTENSIONS

    def add_skipped(self, name: str, reason: str) -> None:
        """Count an image that was left out. Reasons that differ in numbers only are the same."""
        self.skipped.add(re.sub(r"\d+", "N", reason), reason, name)

    def add_resizing(self, name: str, resizing: Resizing) -> None:
        """Include how an image was resized."""
        self.enlarged.add(name, resizing.enlargement)
        self.stretched.add(name, resizing.stretch)

    def drop_empty_classes(self) -> dict[int, int]:
        """Number the classes anew so that each has images, and return the new number by the old number."""
        names, numbers = self.class_names or [], sorted(self.class_counts)
        empty = [name for number, name in enumerate(names) if number not in self.class_counts]
        self.folders_without_images = sorted([*self.folders_without_images, *empty])
        self.class_names = [names[number] for number in numbers]
        self.class_counts = collections.Counter({new: self.class_counts[old] for new, old in enumerate(numbers)})
        return {old: new for new, old in enumerate(numbers)}
