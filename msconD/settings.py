"""Settings of the method, each declared once: a dataclass field with default, legal values, help and source.

The supplement of the paper (WACV 2023) fixes the architecture but no value of the loss, so each default names its
source here; docs/method.md discusses the alternatives. `msconD.config` makes flags of ``train.py`` from the fields, and
`msconD.attach` flags of another checkout's. Neither torch, which would slow ``train.py --help``, nor anything of this
repository, which another checkout lacks, is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import click

DISCRIMINATOR = "msconD.discriminator.MsConDDiscriminator"
LOSS = "msconD.loss.MsConDLoss"

BASE_CFG = "stylegan2"
"""The configuration whose hyperparameters the method keeps."""

MAX_BATCH_GPU = 16
"""Images per pass, if the batch is large enough: the images of a pass are each other's negatives."""

MIN_TEMPERATURE = 0.02
"""Lowest temperature at which sums of exponentiated cosines stay far within the range of float32: e^50 is 5e21."""


class Numbers(click.ParamType):
    """A list of numbers, separated by commas on the command line.

    Args:
        name: Placeholder in help texts.
        is_legal: Checks the list.
        words: Names legal lists, to follow "is not".
    """

    def __init__(self, name: str, is_legal: Callable[[list[float]], bool], words: str) -> None:
        self.name, self.is_legal, self.words = name, is_legal, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Convert text, or any sequence, and check it."""
        try:
            numbers = [float(part) for part in (value.split(",") if isinstance(value, str) else value)]
        except (TypeError, ValueError):
            numbers = []
        if not numbers or not self.is_legal(numbers):
            self.fail(f"{value!r} is not {self.words}.", param, ctx)
        return numbers


class Heights(click.ParamType):
    """A list like ``1,8,16``, or as in the supplement's figure 1 ``1-16`` for 1 and the powers of two from 8 to 16."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Convert text, or any sequence; D checks whether the heights suit the images."""
        try:
            return self._read(value) if isinstance(value, str) else [int(height) for height in value]
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a list of heights like 1,8,16, or 1-16 for the same.", param, ctx)

    def _read(self, text: str) -> list[int]:
        first, _, last = text.partition("-")
        if not last:
            return sorted(int(part) for part in text.split(","))
        num_bits = int(last).bit_length()
        heights = sorted({1, *(2**i for i in range(min(3, num_bits - 1), num_bits))})
        if (heights[0], heights[-1]) != (int(first), int(last)):
            raise ValueError
        return heights


COUNT = click.IntRange(min=1)
NOT_NEGATIVE = click.FloatRange(min=0)
WEIGHTS = Numbers(
    "list",
    lambda weights: all(weight >= 0 for weight in weights) and 0 < sum(weights) < math.inf,
    "a list of numbers of at least 0, one per scale, not all 0",
)
AREA = Numbers(
    "low,high",
    lambda area: len(area) == 2 and 0 < area[0] <= area[1] <= 1,
    "two fractions of the image area with 0 < low <= high <= 1",
)


def _setting(default: Any, type: click.ParamType | list[str], help: str, source: str) -> Any:
    metadata = {"type": click.Choice(type) if isinstance(type, list) else type, "help": help, "source": source}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


class _Checked:
    """Converts the fields of a dataclass by their types; raises ValueError naming the field that is illegal."""

    def __post_init__(self) -> None:
        for setting in fields(self):  # type: ignore[arg-type]
            value = getattr(self, setting.name)
            if value is None and setting.default is None:
                continue
            try:
                value = setting.metadata["type"].convert(value, None, None)
            except click.BadParameter as error:
                raise ValueError(f"{setting.name}: {error.message}") from None
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{setting.name}: {value} is not a finite number.")
            object.__setattr__(self, setting.name, value)  # the dataclasses are frozen


# The constructor of the discriminator repeats its defaults: snapshots carry the source of that file, which must work
# without this one, and tools construct the class without settings. A test keeps both equal.


@dataclass(frozen=True, kw_only=True)
class MultiscaleDiscriminatorSettings(_Checked):
    """Arguments of `msconD.discriminator.MsConDDiscriminator` that concern its logits."""

    scales: Sequence[int] = _setting(
        [1, 8, 16], Heights(), "Heights of the feature maps with logits; 1 is the whole image.", "table 1"
    )
    shared: str = _setting(
        "resblk",
        ["resblk", "stack", "chain"],
        "Block shared by the heads of a branch.",
        "StyleGAN2's also has 3 layers",
    )
    epilogue: str = _setting(
        "stylegan2", ["stylegan2", "table"], "Final layers of D: StyleGAN2's, or only those in table 1.", "paper's text"
    )
    cond_local: bool = _setting(True, click.BOOL, "Condition the local logits on the label, too.", "Projected GAN")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings(MultiscaleDiscriminatorSettings):
    """Arguments of `msconD.discriminator.MsConDDiscriminator`."""

    proj_dim: int = _setting(256, COUNT, "Width of the embeddings.", "supplement")
    proj_hidden: int | None = _setting(
        None, COUNT, "Hidden width of the projection heads.", "that of their input, as in DenseCL, InsGen"
    )
    proj1_layers: int = _setting(
        2, click.IntRange(min=1, max=2), "Layers of the global projection head.", "as the local ones"
    )


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(_Checked):
    """Arguments of `msconD.loss.MsConDLoss` that concern logits; lists are ordered by the height of the scales."""

    adv_weights: Sequence[float] | None = _setting(
        None,
        WEIGHTS,
        "Weights of the adversarial losses by scale, the global one first, normalized to sum to 1.",
        "equal, as in SPADE",
    )
    r1_mode: str = _setting(
        "mean",
        ["mean", "rademacher", "global"],
        "Apply R1 to the weighted mean of all logits, to each logit (by random signs), or to the global one.",
        "GigaGAN",
    )
    ada_scale: str = _setting(
        "global",
        ["global", "mean"],
        "Logits that control adaptive augmentation.",
        "ADA's target was tuned on global logits",
    )


@dataclass(frozen=True, kw_only=True)
class LossSettings(AdversarialSettings):
    """Arguments of `msconD.loss.MsConDLoss` beyond those of StyleGAN2's loss."""

    con_weight: float = _setting(1.0, NOT_NEGATIVE, "Weight of the contrastive loss on real images.", "ContraD, InsGen")
    con_fake_weight: float = _setting(
        0.0, NOT_NEGATIVE, "Weight of the contrastive loss on generated images, for D.", "ContraD; InsGen uses 1"
    )
    con_g_weight: float = _setting(
        0.0, NOT_NEGATIVE, "Weight of the contrastive loss on generated images, for G.", "ContraD; InsGen uses 0.1"
    )
    con_ramp_kimg: float = _setting(
        0.0, NOT_NEGATIVE, "Ramp these weights up over the first N kimg.", "constant, as in ContraD, InsGen"
    )
    con_interval: int = _setting(
        1, COUNT, "Apply the contrastive loss every N batches, scaled by N.", "as in ContraD, InsGen"
    )
    con_scale_weights: Sequence[float] | None = _setting(
        None,
        WEIGHTS,
        "Weights of the contrastive losses by scale, the global one first, normalized to sum to 1.",
        "equal, as in CUT",
    )
    con_views: str = _setting(
        "two",
        ["two", "real"],
        "Contrast two views of a real image, or the image of the adversarial loss with one view of it.",
        "InsGen; ContraD uses real",
    )
    con_geom: str = _setting("crop", ["crop", "none"], "Crop and flip the views at random, or not at all.", "PixPro")
    con_crop: Sequence[float] = _setting(
        [0.2, 1.0], AREA, "Smallest and largest fraction of the image area that a crop covers.", "DenseCL"
    )
    con_color_p: float = _setting(
        0.8, click.FloatRange(min=0, max=1), "Probability of each color transform of a view.", "SimCLR"
    )
    con_temp: float = _setting(
        0.2, click.FloatRange(min=MIN_TEMPERATURE), "Temperature that divides the cosines.", "DenseCL, InsGen"
    )
    con_pos_dist: float = _setting(
        0.7,
        click.FloatRange(min=0, min_open=True),
        "Cells closer than this, in cell diagonals, are positives.",
        "PixPro",
    )
    con_neg_dist: float = _setting(
        0.7, NOT_NEGATIVE, "Cells that are not positives but closer than this are ignored.", "none are, as in PixPro"
    )
    con_multi_pos: str = _setting(
        "sum", ["sum", "mean"], "Sum several positives inside the logarithm, or average their losses.", "PixContrast"
    )
    con_neg: str = _setting(
        "batch",
        ["batch", "image"],
        "Take negatives from all images of the pass, or from the same one.",
        "InsGen, DenseCL",
    )
    con_max_anchors: int = _setting(
        1024, COUNT, "Maximum number of queries per scale and view; larger maps are sampled.", "ours, for speed"
    )
    con_gather: str = _setting(
        "h1",
        ["h1", "all", "none"],
        "Scales with negatives from all processes; h1 is the global one.",
        "ours: few global negatives",
    )


class Variant(NamedTuple):
    """What one value of ``--cfg`` trains."""

    D_settings: type[MultiscaleDiscriminatorSettings]
    loss_settings: type[AdversarialSettings]
    D_kwargs: Mapping[str, Any] = {}
    """Fixed arguments of the discriminator."""
    loss_kwargs: Mapping[str, Any] = {}
    """Fixed arguments of the loss."""


VARIANTS = {
    "msconD": Variant(DiscriminatorSettings, LossSettings),
    "multiscale": Variant(
        MultiscaleDiscriminatorSettings, AdversarialSettings, D_kwargs={"proj_dim": 0}, loss_kwargs={"con_weight": 0}
    ),
}
"""The method, and its ablation without contrastive learning."""


def check_images_per_pass(kwargs: Mapping[str, Any]) -> None:
    """Refuse contrastive learning from passes of a single image: its global loss is 0 whatever D does.

    Args:
        kwargs: Arguments of the training loop: ``batch_gpu``, ``num_gpus`` and ``loss_kwargs`` count.

    Raises:
        ValueError: Each forward pass has a single image, which leaves no negatives.
    """
    loss_kwargs = kwargs["loss_kwargs"]
    is_contrastive = any(loss_kwargs.get(f"con_{kind}weight", 0) > 0 for kind in ("", "fake_", "g_"))
    num_images = kwargs["batch_gpu"] * (1 if loss_kwargs.get("con_gather") == "none" else kwargs["num_gpus"])
    if is_contrastive and num_images == 1:
        raise ValueError(
            "contrastive learning compares the images of a forward pass, but each pass has only 1; raise --batch or "
            "--batch-gpu, or use --cfg=multiscale"
        )
