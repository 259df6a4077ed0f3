"""Settings of the methods, each declared once: a dataclass field with default, legal values, help and source.

`training.run.registry` makes flags of them; the sources are described in baselines/README.md. Torch is not imported
here, so that ``train.py --help`` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import click

NOT_NEGATIVE = click.FloatRange(min=0)
DIFFAUG_POLICIES = ("color", "translation", "cutout")


class Policy(click.ParamType):
    """A comma list out of `DIFFAUG_POLICIES`."""

    name = "list"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the names."""
        if not value or not set(value.split(",")) <= set(DIFFAUG_POLICIES):
            self.fail(f"{value!r} is not a comma list out of {', '.join(DIFFAUG_POLICIES)}.", param, ctx)
        return value


@dataclass(frozen=True, kw_only=True)
class DiffAugmentSettings:
    """Settings of `baselines.diffaug.DiffAugment`."""

    diffaug_policy: str = field(
        default="color,translation,cutout",
        metadata={"type": Policy(), "help": "Transforms, in the order given.", "source": "arXiv 2006.10738"},
    )
    cutout_ratio: float = field(
        default=0.5,
        metadata={
            "type": click.FloatRange(0, 1),
            "help": "Side of the square that is cut out, relative to the image.",
            "source": "0.2 in ProjectedGAN",
        },
    )


@dataclass(frozen=True, kw_only=True)
class LeCamSettings:
    """Settings of `baselines.lecam.LeCam`."""

    lecam: float = field(
        default=0.0,
        metadata={
            "type": NOT_NEGATIVE,
            "help": "Weight of LeCam regularization; try 0.3 with a hinge loss, 3e-7 with --cfg=paper256.",
            "source": "arXiv 2104.03310",
        },
    )


@dataclass(frozen=True, kw_only=True)
class APASettings:
    """Settings of `baselines.apa.AdaptivePseudoAugmentation`."""

    apa: bool = field(
        default=False,
        metadata={
            "type": click.BOOL,
            "help": "Show D generated images as real ones, with an adaptive probability.",
            "source": "arXiv 2111.06849",
        },
    )
    apa_target: float = field(
        default=0.6,
        metadata={"type": click.FloatRange(-1, 1), "help": "Target of the mean sign of D's logits of real images."},
    )
    apa_kimg: float = field(
        default=500.0,
        metadata={
            "type": click.FloatRange(min=0, min_open=True),
            "help": "Thousands of images in which the probability can move by 1.",
        },
    )


@dataclass(frozen=True, kw_only=True)
class RelativisticSettings:
    """Settings of `baselines.relativistic.RelativisticLoss`."""

    loss: str = field(
        default="logistic",
        metadata={
            "type": click.Choice(["logistic", "relativistic"]),
            "help": "Adversarial loss; relativistic pairs real with generated images and penalizes both gradients.",
            "source": "arXiv 2501.05441",
        },
    )


@dataclass(frozen=True, kw_only=True)
class SANSettings:
    """Settings of `baselines.san.SlicingAdversarial`."""

    san: bool = field(
        default=False,
        metadata={
            "type": click.BOOL,
            "help": "Train the direction of D's last layers by the distance of real and generated features.",
            "source": "arXiv 2301.12811",
        },
    )


@dataclass(frozen=True, kw_only=True)
class InsGenSettings:
    """Settings of `baselines.insgen.loss.InsGenLoss`."""

    rqs: int | None = field(
        default=None,
        metadata={
            "type": click.IntRange(min=1),
            "help": "Length of the queue of real images.",
            "source": "5 % of the images, of which --mirror makes twice as many",
        },
    )
    fqs: int | None = field(
        default=None,
        metadata={"type": click.IntRange(min=1), "help": "Length of the queue of generated images.", "source": "--rqs"},
    )
    insgen_real_weight: float = field(
        default=1.0, metadata={"type": NOT_NEGATIVE, "help": "Weight of instance discrimination on real images, for D."}
    )
    insgen_fake_weight: float = field(
        default=1.0,
        metadata={"type": NOT_NEGATIVE, "help": "Weight of instance discrimination on generated images, for D."},
    )
    insgen_g_weight: float = field(
        default=0.1,
        metadata={"type": NOT_NEGATIVE, "help": "Weight of instance discrimination on generated images, for G."},
    )
    insgen_noise: float = field(
        default=0.15, metadata={"type": NOT_NEGATIVE, "help": "Standard deviation of the noise added to z for a key."}
    )
    insgen_temp: float = field(
        default=0.2,
        metadata={"type": click.FloatRange(min=0.02), "help": "Temperature that divides the cosines."},
    )
    insgen_momentum: float = field(
        default=0.999,
        metadata={"type": click.FloatRange(0, 1), "help": "Decay of the momentum copies per iteration."},
    )
    ada_linear: bool = field(
        default=False,
        metadata={
            "type": click.BOOL,
            "help": "Let the probability of --aug=ada grow linearly, to --target at the end, instead of adapting.",
            "source": "the authors' code, for less than 5000 images",
        },
    )


@dataclass(frozen=True, kw_only=True)
class FastGANSettings:
    """Settings of `baselines.projected.fastgan.FastGANGenerator`."""

    is_lite: bool = field(
        default=False, metadata={"type": click.BOOL, "help": "Smaller blocks, those of FastGAN-lite."}
    )
