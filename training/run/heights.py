"""Statistics of maps of several heights, whose names end in ``_h<height>``: above all D's logits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from training.run.stats_file import Series

_NAME = re.compile(r"(.*?)(?:_h(0|[1-9][0-9]{0,5}))?", re.DOTALL)
"""Whole numbers as they are written, so that names can be made of them; Python refuses to parse thousands of digits."""


def split_height(name: str) -> tuple[str, int | None]:
    """Split the name of a statistic into what is measured and the height of the map; None if it names no height."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return match[1], None if match[2] is None else int(match[2])


def heights(names: Iterable[str], prefix: str) -> list[int]:
    """List the heights h, powers of two, of the statistics ``<prefix>_h<h>`` in ascending order."""
    found = {h for base, h in map(split_height, names) if base == prefix and h is not None}
    return sorted(h for h in found if h.bit_count() == 1)


def logit_heights(names: Iterable[str]) -> list[int]:
    """List the heights of D's maps of logits; that of 1 pixel, the logits of whole images, is there always."""
    return sorted({1, *heights(names, "Loss/scores/real")})


def logits(series: Mapping[str, Series], kind: str, h: int) -> Series | None:
    """Return D's logits of a height; of methods without maps, those of whole images.

    Args:
        series: The statistics of a run by name.
        kind: 'real' or 'fake'.
        h: Height of the map of logits.

    Returns:
        None if the run did not report them.
    """
    found = series.get(f"Loss/scores/{kind}_h{h}")
    return series.get(f"Loss/scores/{kind}") if found is None and h == 1 else found
