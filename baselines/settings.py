"""Settings of the methods, each declared once: a dataclass field with default, legal values, help and source.

`training.run.registry` makes flags of them; the sources are described in baselines/README.md. Torch is not imported
here, so that ``train.py --help`` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import click

from training.run.registry import setting

NOT_NEGATIVE = click.FloatRange(min=0)
QUEUE_LENGTH = click.IntRange(1, 1 << 20)
"""The longest takes 512 MiB per 128 channels; InsGen's is a twentieth of the images."""
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

    diffaug_policy: str = setting(
        "color,translation,cutout", Policy(), "Transforms, in the order given.", "arXiv 2006.10738"
    )
    cutout_ratio: float = setting(
        0.5, click.FloatRange(0, 1), "Side of the square that is cut out, relative to the image.", "0.2 in ProjectedGAN"
    )


@dataclass(frozen=True, kw_only=True)
class LeCamSettings:
    """Settings of `baselines.lecam.LeCam`."""

    lecam: float = setting(
        0.0,
        NOT_NEGATIVE,
        "Weight of LeCam regularization; try 0.3 with a hinge loss, 3e-7 with --cfg=paper256.",
        "arXiv 2104.03310",
    )


@dataclass(frozen=True, kw_only=True)
class APASettings:
    """Settings of `baselines.apa.AdaptivePseudoAugmentation`."""

    apa: bool = setting(
        False, click.BOOL, "Show D generated images as real ones, with an adaptive probability.", "arXiv 2111.06849"
    )
    apa_target: float = setting(0.6, click.FloatRange(-1, 1), "Target of the mean sign of D's logits of real images.")
    apa_kimg: float = setting(
        500.0, click.FloatRange(min=0, min_open=True), "Thousands of images in which the probability can move by 1."
    )


@dataclass(frozen=True, kw_only=True)
class RelativisticSettings:
    """Settings of `baselines.relativistic.RelativisticLoss`."""

    loss: str = setting(
        "logistic",
        click.Choice(["logistic", "relativistic"]),
        "Adversarial loss; relativistic pairs real with generated images and penalizes both gradients.",
        "arXiv 2501.05441",
    )


@dataclass(frozen=True, kw_only=True)
class SANSettings:
    """Settings of `baselines.san.SlicingAdversarial`."""

    san: bool = setting(
        False,
        click.BOOL,
        "Train the direction of D's last layers by the distance of real and generated features.",
        "arXiv 2301.12811",
    )


@dataclass(frozen=True, kw_only=True)
class InsGenSettings:
    """Settings of `baselines.insgen.loss.InsGenLoss`."""

    rqs: int | None = setting(
        None,
        QUEUE_LENGTH,
        "Length of the queue of real images.",
        "5 % of the images, of which --mirror makes twice as many",
    )
    fqs: int | None = setting(None, QUEUE_LENGTH, "Length of the queue of generated images.", "--rqs")
    insgen_real_weight: float = setting(1.0, NOT_NEGATIVE, "Weight of instance discrimination on real images, for D.")
    insgen_fake_weight: float = setting(
        1.0, NOT_NEGATIVE, "Weight of instance discrimination on generated images, for D."
    )
    insgen_g_weight: float = setting(0.1, NOT_NEGATIVE, "Weight of instance discrimination on generated images, for G.")
    insgen_noise: float = setting(0.15, NOT_NEGATIVE, "Standard deviation of the noise added to z for a key.")
    insgen_temp: float = setting(0.2, click.FloatRange(min=0.02), "Temperature that divides the cosines.")
    insgen_momentum: float = setting(0.999, click.FloatRange(0, 1), "Decay of the momentum copies per iteration.")
    ada_linear: bool = setting(
        False,
        click.BOOL,
        "Let the probability of --aug=ada grow linearly, to --target at the end, instead of adapting.",
        "the authors' code, for less than 5000 images",
    )


@dataclass(frozen=True, kw_only=True)
class FastGANSettings:
    """Settings of `baselines.projected.fastgan.FastGANGenerator`."""

    is_lite: bool = setting(False, click.BOOL, "Smaller blocks, those of FastGAN-lite.")
