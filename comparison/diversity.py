"""How different the samples of a method are from one another, over the second half of training."""

from __future__ import annotations

from comparison.summary import Cell, Comparison, MethodResult, mean_statistic
from training.run.health.history import DIVERSITY


def diversity(comparison: Comparison) -> tuple[str, list[tuple[MethodResult, Cell]]]:
    """Return a caption and, for each method, the mean diversity of the sample grids of each run.

    It is the median distance of a sample from its nearest neighbor, relative to that of real images
    (`training.run.health.samples`). There are no rows without scores, which say how many images all runs have seen, or
    without measurements.
    """
    kimg = comparison.common_kimg(comparison.scores[0]) if comparison.scores else None
    if kimg is None:
        return "", []
    rows = [(result, result.cell(mean_statistic(DIVERSITY, kimg))) for result in comparison.methods]
    caption = (
        "Median distance of a sample from its nearest neighbor, relative to that of real images, "
        f"from {kimg / 2:.4g} to {kimg:.4g} kimg"
    )
    return caption, rows if any(cell.values for _result, cell in rows) else []
