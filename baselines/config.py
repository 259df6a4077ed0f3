"""What this folder adds to ``train.py``: values of ``--cfg`` and ``--aug``, and extensions for any ``--cfg``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baselines.settings import (
    APASettings,
    DiffAugmentSettings,
    InsGenSettings,
    LeCamSettings,
    RelativisticSettings,
    SANSettings,
)
from training.run.presets import auto_preset
from training.run.registry import AugmentationOption, Configuration, ExtensionOption

QUEUE_FRACTION = 0.05
"""Length of InsGen's queues relative to the number of images (arXiv 2106.04566)."""


def size_queues(kwargs: dict[str, Any]) -> None:
    """Set the lengths of InsGen's queues that were not given."""
    data, loss = kwargs["training_set_kwargs"], kwargs["loss_kwargs"]
    num_images = data["max_size"] * (2 if data["xflip"] else 1)
    loss["rqs"] = loss["rqs"] or max(int(QUEUE_FRACTION * num_images), 1)
    loss["fqs"] = loss["fqs"] or loss["rqs"]


CONFIGURATIONS = (
    Configuration(
        name="insgen",
        preset=auto_preset,
        discriminator="baselines.insgen.discriminator.InsGenDiscriminator",
        loss="baselines.insgen.loss.InsGenLoss",
        loss_settings=InsGenSettings,
        complete=size_queues,
    ),
)

AUGMENTATIONS = (
    AugmentationOption(name="diffaug", class_name="baselines.diffaug.DiffAugment", settings_class=DiffAugmentSettings),
)


def check_san(kwargs: Mapping[str, Any]) -> None:
    """Refuse labels: the last layer of a projection discriminator is another one for each label."""
    if kwargs["training_set_kwargs"].get("use_labels"):
        raise ValueError("--san=1 is not defined for D conditioned on labels; use --cond=0")


def regularize_always(kwargs: dict[str, Any]) -> None:
    """Penalize gradients in every iteration, as arXiv 2501.05441 does."""
    kwargs["D_reg_interval"] = None


EXTENSIONS = (
    ExtensionOption(name="lecam", class_name="baselines.lecam.LeCam", settings_class=LeCamSettings),
    ExtensionOption(name="apa", class_name="baselines.apa.AdaptivePseudoAugmentation", settings_class=APASettings),
    ExtensionOption(
        name="loss",
        class_name="baselines.relativistic.RelativisticLoss",
        settings_class=RelativisticSettings,
        complete=regularize_always,
    ),
    ExtensionOption(
        name="san", class_name="baselines.san.SlicingAdversarial", settings_class=SANSettings, check=check_san
    ),
)
