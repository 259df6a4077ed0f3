"""The summary that ``dataset_tool.py`` ends with, in words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from dnnlib.commands import how_to_install, how_to_run
from dnnlib.formatting import format_number, plural
from training.data.labels import images_each
from training.data.names import shown
from training.data.report import Groups, Report

MAX_SHOWN_CLASSES = 10
"""Classes are listed one by one up to this number; of more, the smallest and the largest count are given."""

MIN_ID_CLASSES = 100
"""From this many classes on, more than one for every two images are taken for ids of images."""

MIN_CONTRAST = 64
"""A dataset whose highest and lowest pixel value differ by less is suspicious."""


def summary(report: Report, dest: Path, bits: int) -> Iterator[str]:
    """Yield the lines of the summary.

    Args:
        report: What happened.
        dest: The dataset.
        bits: Number of bits that 16-bit images were assumed to use.
    """
    yield f"Wrote {plural(report.num_written, 'image')} ({report.layout}) to {dest}"
    yield from _classes(report)
    if report.unread_labels is not None:
        yield f"Note: {report.unread_labels}"
    yield from _groups("Ignored", "file", report.ignored)
    if report.num_heif:
        yield f"{plural(report.num_heif, 'HEIC image')} can be read with pillow-heif: {how_to_install('heif')}"
    if report.num_raw:
        yield f"{plural(report.num_raw, 'raw photograph')} can be used after a conversion to JPEG or TIFF"
    yield from _groups("Skipped", "image", report.skipped)
    if report.listing is not None:
        yield f"All skipped images are listed in {report.listing}"
    yield from _resizing(report)
    yield from _values(report, bits)
    yield f"Next: {how_to_run('train.py')} --outdir=runs {shlex.quote(f'--data={dest}')}"


def _classes(report: Report) -> Iterator[str]:
    counts = report.class_counts
    if report.label_size:
        yield f"Labels: vectors of {plural(report.label_size, 'number')}"
    if not counts:
        return
    if len(counts) <= MAX_SHOWN_CLASSES:
        sizes = ", ".join(f"{_class_name(report, number)} ({counts[number]})" for number in sorted(counts))
        yield f"Labels: {plural(len(counts), 'class')} (number of images): {sizes}"
    else:
        yield f"Labels: {plural(len(counts), 'class')} with {images_each(min(counts.values()), max(counts.values()))}"
    if len(counts) == 1:
        yield "Warning: all images are of one class, which is as good as no classes: --cond=1 would change nothing"
    if renumbered := [number for number, name in enumerate(report.class_names or []) if _is_another(name, number)]:
        yield (
            f"Note: classes are numbered from 0: --class={renumbered[0]} is the folder "
            f"{_class_name(report, renumbered[0])}"
        )
    if folders := report.folders_without_images:
        examples = _names(folders[:MAX_SHOWN_CLASSES], len(folders))
        yield f"No class for {plural(len(folders), 'folder')} without usable images: {examples}"
    if max(counts) >= len(counts):
        yield (
            f"Warning: class numbers go up to {max(counts)}, but only {len(counts)} of these {max(counts) + 1} classes "
            "have images; training takes memory for all of them, so number the classes from 0 without gaps"
        )
    if len(counts) >= MIN_ID_CLASSES and 2 * len(counts) > report.num_written:
        yield (
            f"Warning: with {len(counts)} classes for {report.num_written} images, the class numbers look like ids of "
            "images"
        )


def _is_another(name: str, number: int) -> bool:
    """Return whether a folder is named by another number than that of its class."""
    return name.isdecimal() and name != str(number)


def _class_name(report: Report, number: int) -> str:
    names = report.class_names
    return shown(names[number]) if names is not None and number < len(names) else str(number)


def _groups(verb: str, noun: str, groups: Groups) -> Iterator[str]:
    if groups:
        yield f"{verb} {plural(groups.num_files, noun)}:"
    for group in sorted(groups.values(), key=lambda group: -group.count):
        yield f"  {group.count}: {shown(group.text)}: {_names(group.names, group.count)}"


def _names(names: Sequence[str], count: int) -> str:
    return ", ".join(map(shown, names)) + (", ..." if count > len(names) else "")


def _resizing(report: Report) -> Iterator[str]:
    of_all = f"of {plural(report.num_written, 'image')}"
    if largest := report.enlarged:
        factor = format_number(largest.factor, 3)
        yield f"Enlarged {largest.count} {of_all}, by a factor of up to {factor} ({shown(largest.name)})"
    if largest := report.stretched:
        factor = format_number(largest.factor, 3)
        yield (
            f"Stretched {largest.count} {of_all}, changing the aspect ratio by a factor of up to {factor} "
            f"({shown(largest.name)}); --transform=center-crop or --transform=pad preserves it"
        )


def _values(report: Report, bits: int) -> Iterator[str]:
    before, after = report.values_16_bit, report.values
    used_bits = max(before.high.bit_length(), 8)
    if before.low <= before.high and used_bits < bits - 1:
        yield (
            f"Warning: the values of the 16-bit images range from {before.low} to {before.high} only, which makes the "
            f"dataset almost black: add --bits={used_bits}"
        )
    elif after.high - after.low < MIN_CONTRAST:
        yield (
            f"Warning: all pixel values are between {after.low} and {after.high}, out of 0 to 255; masks, and 16-bit "
            "color images that use fewer bits, must be scaled first"
        )
