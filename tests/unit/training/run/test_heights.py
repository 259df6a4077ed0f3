"""Which maps of logits a run has."""

import numpy as np

from training.run.heights import heights, logit_heights, logits, split_height
from training.run.stats_file import Series


def test_heights_are_powers_of_two():
    names = [f"Con/loss_h{h}" for h in (16, 1, 8, 3, 99999999)] + ["Con/loss", "Con/top1_h4"]
    assert heights(names, "Con/loss") == [1, 8, 16]


def test_heights_are_written_as_statistics_are_named():
    """Whoever lists the heights looks the statistics up by them."""
    assert heights(["Con/loss_h08", "Con/loss_h\u0668"], "Con/loss") == []
    assert [split_height(f"x_h{h}") for h in ("0", "8", "08")] == [("x", 0), ("x", 8), ("x_h08", None)]


def test_logits_of_whole_images_are_those_of_height_1():
    whole, of_1, of_8 = (Series(*np.full([4, 2], i)) for i in range(3))
    assert logit_heights([]) == logit_heights(["Loss/scores/real"]) == [1]
    assert logits({"Loss/scores/real": whole}, "real", 1) is whole
    series = {"Loss/scores/real": whole, "Loss/scores/real_h1": of_1, "Loss/scores/real_h8": of_8}
    assert logit_heights(series) == [1, 8]
    assert [logits(series, "real", h) for h in (1, 8, 16)] == [of_1, of_8, None]
    assert logits(series, "fake", 1) is None
