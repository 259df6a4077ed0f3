"""The method's values of ``--cfg`` and their flags: what they become, whoever trains, here or in the official code.

Torch is not imported here, so that ``train.py --help`` is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from msconD.settings import Kind, LossSettings, choice, integer

DISCRIMINATOR = "msconD.discriminator.MsConDDiscriminator"
LOSS = "msconD.loss.MsConDLoss"

BASE_CFG = "stylegan2"
"""The configuration whose hyperparameters the method keeps."""

MAX_BATCH_GPU = 16
"""Passes are as large as this, if the batch is: images of a pass are each other's negatives, so 4 would be too few."""


class Flag(NamedTuple):
    """A setting of the method: a flag that becomes a keyword argument of one of its classes."""

    flag: str
    """For example ``--con-weight``."""
    target: str
    """Which class takes it: ``D_kwargs`` or ``loss_kwargs``."""
    key: str
    """Name of the keyword argument."""
    default: Any
    parse: Callable[[str], Any]
    """From the text on the command line to the value; raises ValueError with the allowed values."""
    metavar: str
    help: str
    """One line, with the source of the default."""


class Variant(NamedTuple):
    """One value of ``--cfg``."""

    flags: tuple[Flag, ...]
    D_kwargs: Mapping[str, Any] = {}
    """Fixed arguments of the discriminator."""
    loss_kwargs: Mapping[str, Any] = {}
    """Fixed arguments of the loss."""


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


def _discriminator_flags(table: dict[str, Row]) -> tuple[Flag, ...]:
    return tuple(_flag("D_kwargs", key, *row) for key, row in table.items())


def _loss_flags(is_contrastive: bool) -> tuple[Flag, ...]:
    return tuple(
        _flag("loss_kwargs", field.name, field.default, **field.metadata)
        for field in fields(LossSettings)
        if field.name.startswith("con_") == is_contrastive
    )


def _flag(target: str, key: str, default: Any, kind: Kind, text: str, source: str) -> Flag:
    default = list(default) if isinstance(default, tuple) else default
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    return Flag(
        flag="--" + key.replace("_", "-"),
        target=target,
        key=key,
        default=default,
        parse=kind.parse,
        metavar=kind.metavar,
        help=f"{text}  [default: {source if default is None else f'{shown}; {source}'}]",
    )


MULTISCALE_FLAGS = _discriminator_flags(JUDGE_SETTINGS) + _loss_flags(is_contrastive=False)
CONTRASTIVE_FLAGS = _discriminator_flags(PROJECTION_SETTINGS) + _loss_flags(is_contrastive=True)

VARIANTS = {
    "msconD": Variant(MULTISCALE_FLAGS + CONTRASTIVE_FLAGS),
    "multiscale": Variant(MULTISCALE_FLAGS, D_kwargs={"proj_dim": 0}, loss_kwargs={"con_weight": 0}),
}
"""The method, and its ablation without contrastive learning."""
