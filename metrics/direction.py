"""Whether higher scores are better."""

from __future__ import annotations

import re


def is_higher_better(score: str) -> bool | None:
    """Return whether larger values of a score are better; None for numbers that are neither good nor bad.

    Args:
        score: Name of a value as it stands in ``results`` of ``metric-*.jsonl``, such as 'fid50k_full'.
    """
    if score.endswith("_per_image"):
        return None
    return bool(re.search(r"precision|recall|^is\d", score))
