"""``--cfg=msconD``, its ablation without contrastive learning ``--cfg=multiscale``, and their flags.

Torch is not imported here, so that ``train.py --help`` is quick.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from msconD.settings import Kind, LossSettings, choice, integer
from training.presets import Preset
from training.registry import Configuration, Setting, constant

PRESET = Preset(
    ref_gpus=8,
    batch=32,
    mbstd=4,
    fmaps=1.0,  # the widths in the supplement's table 1
    lr=0.002,
    gamma=10.0,
    ema_kimg=10,
    max_batch_gpu=16,  # images of a pass are each other's negatives, so a pass of 4 would be too few
)
"""StyleGAN2's own configuration, whose discriminator the method extends."""

DEMO_PRESET = Preset(
    ref_gpus=1,
    kimg=24,
    batch=16,
    mbstd=4,
    fmaps=1 / 64,
    lr=0.006,
    gamma=0.05,
    ema_kimg=0.5,
    ramp=0.05,
    map_depth=2,
    z_dim=128,
    pl_weight=0,
)
"""Small enough to learn the street scenes at 32 px in a few minutes on two cores (docs/benchmarks.md)."""


def scales_from_text(text: str) -> list[int]:
    """Read a list of heights, or the notation of the supplement's figure 1: ``1-H`` is 1 and the powers from 8 to H."""
    first, _, last = text.partition("-")
    if not last:
        return sorted(int(part) for part in text.split(","))
    scales = [1] + [2**i for i in range(3, int(last).bit_length())]
    if (scales[0], scales[-1]) != (int(first), int(last)):
        raise ValueError
    return scales


SCALES = Kind("LIST", scales_from_text, lambda _: True, "heights like 1,8,16, or 1-16 for the same")
BOOLEAN = Kind(
    "BOOL",
    lambda text: {"1": True, "true": True, "0": False, "false": False}.get(text.lower()),
    lambda value: isinstance(value, bool),
    "true or false",
)

Row = tuple[Any, Kind, str, str]

JUDGE_SETTINGS: dict[str, Row] = {
    "scales": ([1, 8, 16], SCALES, "Heights of the feature maps that are judged; 1 is the image.", "table 1"),
    "shared": (
        "resblk",
        choice("resblk", "stack", "chain"),
        "Shared block of a branch.",
        "StyleGAN2's block has 3 too",
    ),
    "epilogue": (
        "stylegan2",
        choice("stylegan2", "table"),
        "Last layers: StyleGAN2's, or only those in table 1.",
        "the text builds on StyleGAN2",
    ),
    "cond_local": (True, BOOLEAN, "With labels: condition the local logits too.", "Projected GAN"),
}
PROJECTION_SETTINGS: dict[str, Row] = {
    "proj_dim": (256, integer(1), "Width of the embeddings.", "supplement"),
    "proj_hidden": (None, integer(1), "Width inside the projection heads.", "that of their input, as DenseCL, InsGen"),
    "proj1_layers": (2, integer(1), "Layers of the global projection head, 2 or 1.", "as the local ones"),
}
"""Arguments of `msconD.discriminator.MsConDDiscriminator`: default (a test: the same there), kind, help, source."""


def _discriminator_flags(table: dict[str, Row]) -> tuple[Setting, ...]:
    return tuple(_setting("D_kwargs", key, *row) for key, row in table.items())


def _loss_flags(is_contrastive: bool) -> tuple[Setting, ...]:
    return tuple(
        _setting("loss_kwargs", field.name, field.default, **field.metadata)
        for field in fields(LossSettings)
        if field.name.startswith("con_") == is_contrastive
    )


def _setting(target: str, key: str, default: Any, kind: Kind, text: str, source: str) -> Setting:
    default = list(default) if isinstance(default, tuple) else default
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    return Setting(
        flag="--" + key.replace("_", "-"),
        target=target,
        key=key,
        default=default,
        parse=kind.parse,
        metavar=kind.metavar,
        help=f"{text}  [default: {source if default is None else f'{shown}; {source}'}]",
    )


_MULTISCALE_FLAGS = _discriminator_flags(JUDGE_SETTINGS) + _loss_flags(is_contrastive=False)
_CONTRASTIVE_FLAGS = _discriminator_flags(PROJECTION_SETTINGS) + _loss_flags(is_contrastive=True)


def _configuration(name: str, settings: tuple[Setting, ...], preset: Preset = PRESET, **kwargs: Any) -> Configuration:
    return Configuration(
        name=name,
        preset=constant(preset),
        discriminator="msconD.discriminator.MsConDDiscriminator",
        loss="msconD.loss.MsConDLoss",
        settings=settings,
        **kwargs,
    )


CONFIGURATIONS = (
    _configuration("msconD", _MULTISCALE_FLAGS + _CONTRASTIVE_FLAGS),
    _configuration("msconD-demo", _MULTISCALE_FLAGS + _CONTRASTIVE_FLAGS, preset=DEMO_PRESET),
    _configuration("multiscale", _MULTISCALE_FLAGS, D_kwargs={"proj_dim": 0}, loss_kwargs={"con_weight": 0}),
)
