"""What this folder adds to ``train.py``: values of ``--cfg`` and ``--aug``, and extensions for any ``--cfg``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from baselines.settings import (
    APASettings,
    DiffAugmentSettings,
    FastGANSettings,
    InsGenSettings,
    LeCamSettings,
    RelativisticSettings,
    SANSettings,
)
from training.run.presets import Preset, auto_preset
from training.run.registry import AugmentationOption, Configuration, ExtensionOption, constant

QUEUE_FRACTION = 0.05
"""Length of InsGen's queues relative to the number of images (arXiv 2106.04566)."""

FASTGAN_CHANNEL_BASE_PER_NGF = 256
"""At StyleGAN2's full width, 32768, FastGAN has its published ngf of 128."""


def size_queues(kwargs: dict[str, Any]) -> None:
    """Set the lengths of InsGen's queues that were not given."""
    data, loss = kwargs["training_set_kwargs"], kwargs["loss_kwargs"]
    num_images = data["max_size"] * (2 if data["xflip"] else 1)
    loss["rqs"] = loss["rqs"] or max(int(QUEUE_FRACTION * num_images), 1)
    loss["fqs"] = loss["fqs"] or loss["rqs"]


def schedule_p(kwargs: dict[str, Any]) -> None:
    """Replace ADA by InsGen's linear schedule, if it was asked for."""
    loss = kwargs["loss_kwargs"]
    if not loss["ada_linear"]:
        return
    target, max_p = kwargs.pop("ada_target", None), kwargs.pop("ada_max_p", None)
    if target is None or target <= 0:
        raise ValueError("--ada-linear=1 needs --aug=ada and --target above 0: the probability grows to --target")
    if kwargs.get("time_limit_sec") is not None:
        raise ValueError("--ada-linear=1 needs a run of known length: give --kimg instead of --time")
    loss["final_p"] = min(target, 1.0 if max_p is None else max_p)
    loss["final_p_iteration"] = max(kwargs["total_kimg"] * 1000 // kwargs["batch_size"], 1)
    kwargs["augment_p"] = loss["final_p"] / loss["final_p_iteration"]  # not 0, with which there is no augmentation


def complete_insgen(kwargs: dict[str, Any]) -> None:
    """Set what depends on the data, the batch and the length of training."""
    size_queues(kwargs)
    schedule_p(kwargs)


PROJECTED_PRESET = Preset(
    ref_gpus=8,
    batch=64,
    mbstd=4,
    fmaps=1.0,
    lr=0.002,
    gamma=None,
    ema_kimg=20,
    ramp=0.05,
    map_depth=2,
    z_dim=64,
    w_dim=128,
)
"""Projected GAN with StyleGAN2's generator (arXiv 2111.01007)."""

FASTGAN_PRESET = dataclasses.replace(PROJECTED_PRESET, lr=0.0002, z_dim=256, w_dim=None)


def use_projected_discriminator(kwargs: dict[str, Any]) -> None:
    """Leave out the settings of StyleGAN2's discriminator."""
    if kwargs["D_kwargs"]["block_kwargs"].get("freeze_layers"):
        raise ValueError("--freezed has no effect with the discriminators of Projected GAN")
    own = ("class_name", "is_separable")
    kwargs["D_kwargs"] = {name: value for name, value in kwargs["D_kwargs"].items() if name in own}


def use_fastgan_generator(kwargs: dict[str, Any]) -> None:
    """Leave out the settings of StyleGAN2's networks; ``--cbase`` sets the number of channels."""
    use_projected_discriminator(kwargs)
    if kwargs["training_set_kwargs"].get("use_labels"):
        raise ValueError("--cond=1 has no effect on FastGAN's generator; use --cfg=projected, or --cond=0")
    G_kwargs = kwargs["G_kwargs"]
    use_noise = G_kwargs["synthesis_kwargs"].get("use_noise", True)
    ngf = max(G_kwargs["synthesis_kwargs"]["channel_base"] // FASTGAN_CHANNEL_BASE_PER_NGF, 1)
    own = ("class_name", "z_dim", "is_lite")
    kept = {name: value for name, value in G_kwargs.items() if name in own}
    kwargs["G_kwargs"] = {**kept, "ngf": ngf, "use_noise": use_noise}


PROJECTED: dict[str, Any] = {
    "discriminator": "baselines.projected.discriminator.ProjectedDiscriminator",
    "loss": "baselines.projected.loss.ProjectedLoss",
    "training_kwargs": {"G_reg_interval": None, "D_reg_interval": None},
    "aug": "diffaug",
    "is_pretrained": True,
    "defaults": {"cutout_ratio": 0.2},
}


def check_relativistic(kwargs: Mapping[str, Any]) -> None:
    """Refuse losses without R1: the relativistic loss does not converge without gradient penalties."""
    if "r1_gamma" not in kwargs["loss_kwargs"]:
        raise ValueError("--loss=relativistic replaces a logistic loss with R1, which this --cfg does not have")
    if kwargs["loss_kwargs"].get("con_views") == "real" or kwargs["loss_kwargs"].get("con_fake_weight"):
        raise ValueError("--loss=relativistic needs --con-views=two and --con-fake-weight=0")


def regularize_always(kwargs: dict[str, Any]) -> None:
    """Penalize gradients in every iteration, as arXiv 2501.05441 does."""
    kwargs["D_reg_interval"] = None


def check_san(kwargs: Mapping[str, Any]) -> None:
    """Refuse labels, with which the last layer of D is another one for each, and heads that are normalized already."""
    if kwargs["D_kwargs"]["class_name"] == PROJECTED["discriminator"]:
        raise ValueError("--san=1 has no meaning for heads with spectral normalization, as in --cfg=projected")
    if kwargs["training_set_kwargs"].get("use_labels"):
        raise ValueError("--san=1 is not defined for D conditioned on labels; use --cond=0")


CONFIGURATIONS = (
    Configuration(
        name="insgen",
        preset=auto_preset,
        discriminator="baselines.insgen.discriminator.InsGenDiscriminator",
        loss="baselines.insgen.loss.InsGenLoss",
        loss_settings=InsGenSettings,
        complete=complete_insgen,
    ),
    Configuration(
        name="projected",
        preset=constant(PROJECTED_PRESET),
        D_kwargs={"is_separable": True},
        complete=use_projected_discriminator,
        **PROJECTED,
    ),
    Configuration(
        name="projected-fastgan",
        preset=constant(FASTGAN_PRESET),
        generator="baselines.projected.fastgan.FastGANGenerator",
        G_settings=FastGANSettings,
        complete=use_fastgan_generator,
        **PROJECTED,
    ),
)

AUGMENTATIONS = (
    AugmentationOption(name="diffaug", class_name="baselines.diffaug.DiffAugment", settings_class=DiffAugmentSettings),
)


EXTENSIONS = (
    ExtensionOption(name="lecam", class_name="baselines.lecam.LeCam", settings_class=LeCamSettings),
    ExtensionOption(name="apa", class_name="baselines.apa.AdaptivePseudoAugmentation", settings_class=APASettings),
    ExtensionOption(
        name="loss",
        class_name="baselines.relativistic.RelativisticLoss",
        settings_class=RelativisticSettings,
        check=check_relativistic,
        complete=regularize_always,
    ),
    ExtensionOption(
        name="san", class_name="baselines.san.SlicingAdversarial", settings_class=SANSettings, check=check_san
    ),
)
