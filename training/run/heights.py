"""Statistics of maps of several heights, whose names end in ``_h<height>``: above all D's logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from training.run.stats_file import Series

HEIGHTS = [2**i for i in range(11)]


def heights(names: Iterable[str], prefix: str) -> list[int]:
    """List the heights h, powers of two, of the statistics ``<prefix>_h<h>``."""
    found = set(names)
    return [h for h in HEIGHTS if f"{prefix}_h{h}" in found]


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
