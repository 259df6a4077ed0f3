"""``--cfg=msconD``, ``--cfg=multiscale`` (the ablation) and ``--cfg=msconD-demo`` (``msconD --small``) of ``train.py``.

Torch is not imported here, so that ``train.py --help`` is fast.
"""

from __future__ import annotations

import dataclasses

from msconD.settings import BASE_CFG, DISCRIMINATOR, LOSS, MAX_BATCH_GPU, VARIANTS, Variant, check_images_per_pass
from training.run.presets import PRESETS, Preset, small
from training.run.registry import Configuration, constant

PRESET = dataclasses.replace(PRESETS[BASE_CFG], max_batch_gpu=MAX_BATCH_GPU)
"""StyleGAN2's own configuration, whose discriminator the method extends; its widths are those of table 1."""


def _configuration(name: str, variant: Variant, preset: Preset) -> Configuration:
    return Configuration(
        name=name,
        preset=constant(preset),
        discriminator=DISCRIMINATOR,
        loss=LOSS,
        check=check_images_per_pass,
        **variant._asdict(),
    )


CONFIGURATIONS = (
    _configuration("msconD", VARIANTS["msconD"], PRESET),
    _configuration("msconD-demo", VARIANTS["msconD"], small(PRESET)),
    _configuration("multiscale", VARIANTS["multiscale"], PRESET),
)
