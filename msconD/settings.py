"""Settings of the loss: defaults, legal values and help, each declared once.

The supplement of the paper (WACV 2023) fixes the architecture but no value of the loss, so each default names its
source here, and README.md of this folder says more.

Torch is not imported here, so that ``train.py --help`` is quick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A kind of value that a setting can have."""

    metavar: str
    """Stands for the value in help texts."""
    convert: Callable[[str], Any]
    """From text to value; raises ValueError."""
    is_legal: Callable[[Any], bool]
    words: str
    """The legal values, to follow "must be"."""

    def check(self, value: Any) -> Any:
        """Return ``value`` if it is legal, else raise ValueError."""
        try:
            is_legal = self.is_legal(value)
        except TypeError:
            is_legal = False
        if not is_legal:
            raise ValueError(f"must be {self.words}, got {value!r}")
        return value

    def parse(self, text: str) -> Any:
        """Read a value from the command line; raises ValueError."""
        try:
            return self.check(self.convert(text))
        except ValueError:
            raise ValueError(f"must be {self.words}, got {text!r}") from None


def choice(*words: str) -> Kind:
    """Make the kind of values that are one of some words."""
    return Kind("|".join(words), str, words.__contains__, f"one of {', '.join(words)}")


def number(low: float, high: float = math.inf) -> Kind:
    """Make the kind of numbers from ``low`` to ``high``."""
    bounds = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
    return Kind("FLOAT", float, lambda value: low <= value <= high, f"a number {bounds}")


def integer(low: int) -> Kind:
    """Make the kind of integers from ``low``."""
    return Kind("INT", int, lambda value: value >= low and value == int(value), f"an integer of at least {low}")


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


SHARES = Kind(
    "LOW,HIGH",
    _floats,
    lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= 1,
    "two shares of the image's area with 0 < low <= high <= 1",
)
WEIGHTS = Kind(
    "LIST",
    _floats,
    lambda value: value is None or (min(value) >= 0 and max(value) > 0),
    "numbers of at least 0, one per scale, not all 0",
)

MIN_TEMPERATURE = 0.02
"""Below it, sums of exponentiated cosines leave the range of float32."""


def _setting(default: Any, kind: Kind, text: str, source: str) -> Any:
    return field(default=default, metadata={"kind": kind, "text": text, "source": source})


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Arguments of `msconD.loss.MsConDLoss` beyond those of StyleGAN2's loss; scales are ordered by height.

    Raises:
        ValueError: A value is not legal.
    """

    adv_weights: Sequence[float] | None = _setting(
        None, WEIGHTS, "Weights of the scales' adversarial terms, scaled to sum 1.", "equal, as SPADE"
    )
    r1_mode: str = _setting(
        "mean",
        choice("mean", "rademacher", "global"),
        "R1 of the weighted mean of all logits, of each logit (by random signs), or of the global one.",
        "GigaGAN",
    )
    ada_scale: str = _setting(
        "global", choice("global", "mean"), "Logits that steer the augmentation.", "its target was tuned on global ones"
    )
    con_weight: float = _setting(1.0, number(0), "Weight of contrastive learning on real images.", "ContraD, InsGen")
    con_fake_weight: float = _setting(0.0, number(0), "The same on generated images, for D.", "ContraD; InsGen has 1")
    con_g_weight: float = _setting(0.0, number(0), "The same on generated images, for G.", "ContraD; InsGen has 0.1")
    con_ramp_kimg: float = _setting(
        0.0, number(0), "Let these weights grow from 0 over so many kimg.", "constant, as ContraD, InsGen"
    )
    con_interval: int = _setting(
        1, integer(1), "Learn contrastively every so many batches, with as many times the weight.", "as ContraD, InsGen"
    )
    con_scale_weights: Sequence[float] | None = _setting(
        None, WEIGHTS, "Weights of the scales' contrastive losses, scaled to sum 1.", "equal, as CUT"
    )
    con_geom: str = _setting("crop", choice("crop", "none"), "Views are cropped and mirrored, or not.", "PixPro")
    con_crop: Sequence[float] = _setting((0.2, 1.0), SHARES, "Share of the image's area in a crop.", "DenseCL")
    con_color_p: float = _setting(0.8, number(0, 1), "Probability of each change of a view's colours.", "SimCLR")
    con_temp: float = _setting(0.2, number(MIN_TEMPERATURE), "Temperature, divides the cosines.", "DenseCL, InsGen")
    con_pos_dist: float = _setting(0.7, number(0), "Places nearer than so many cell diagonals are positives.", "PixPro")
    con_neg_dist: float = _setting(0.7, number(0), "Places from there up to this do not count.", "none, as PixPro")
    con_multi_pos: str = _setting(
        "sum", choice("sum", "mean"), "Log of the sum of several positives, or mean of their losses.", "PixContrast"
    )
    con_neg: str = _setting(
        "batch", choice("batch", "image"), "Negatives of a place come from the batch or its image.", "InsGen, DenseCL"
    )
    con_max_anchors: int = _setting(
        1024, integer(1), "Anchors per scale and view; larger maps are sampled.", "speed, see msconD/README.md"
    )
    con_gather: str = _setting(
        "h1", choice("h1", "all", "none"), "Scales whose negatives come from all processes.", "h1 is the global one"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            try:
                setting.metadata["kind"].check(getattr(self, setting.name))
            except ValueError as err:
                raise ValueError(f"{setting.name} {err}") from None
