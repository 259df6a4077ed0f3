"""What is compared: a ``--cfg`` with additions, written as ``name[+option[=value]]...``.

An option is the name of an augmentation (``stylegan2+ada``, ``stylegan2+diffaug``) or any flag of ``train.py`` without
its hyphens (``msconD+con-weight=0.1``, ``stylegan2+lecam=1e-6``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dnnlib.errors import UserError
from training.run.flags import OWN_AUGMENTATIONS
from training.run.registry import augmentations, configurations

OWN_FLAGS = {
    *("data", "outdir", "continue", "cfg", "seed", "kimg", "time", "tick", "snap", "metrics", "metrics-ticks", "desc"),
    *("dry-run", "n", "progress", "help"),
}
"""Flags that ``compare.py`` gives itself, or that would keep a run from ending as it should."""
COMMON_FLAGS = OWN_FLAGS | {"small", "gpus"}
"""Flags that are the same for all methods."""


@dataclass(frozen=True)
class Method:
    """One row of the comparison."""

    cfg: str
    options: tuple[tuple[str, str | None], ...] = ()
    """Further flags without their hyphens; None for a flag without a value."""

    @property
    def label(self) -> str:
        """The method as it is written on the command line."""
        return "+".join([self.cfg, *(name if value is None else f"{name}={value}" for name, value in self.options)])

    @property
    def folder(self) -> str:
        """Name of its folder: the label, if that can be one, else a similar name that no other label has."""
        safe = re.sub(r"[^\w.+=,-]", "_", self.label, flags=re.ASCII)[:100]
        return safe if safe == self.label else f"{safe}-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"

    @property
    def flags(self) -> list[str]:
        """Arguments of ``train.py``.

        Augmentation is off unless an option asks for it, or the method brings one of its own, as Projected GAN does.
        """
        names = [name for name, _value in self.options]
        augmentation = [name for name in names if name in _known_augmentations()]
        flags = [f"--cfg={self.cfg}", *(f"--aug={name}" for name in augmentation)]
        if not augmentation and "aug" not in names and configurations()[self.cfg].aug == "ada":
            flags.append("--aug=noaug")
        others = [(name, value) for name, value in self.options if name not in augmentation]
        return flags + [f"--{name}" if value is None else f"--{name}={value}" for name, value in others]


def _known_augmentations() -> set[str]:
    return {*OWN_AUGMENTATIONS, *augmentations()}


def parse_methods(text: str, scales: Sequence[str] = ()) -> list[Method]:
    """Read a list such as ``stylegan2,msconD+con-weight=0.1,msconD+scales=1,8``.

    Args:
        text: Methods, separated by commas. What follows a comma and is no ``--cfg`` belongs to the value before it.
        scales: Values of ``--scales``; each method that has this setting, and does not choose, is taken once with each.

    Raises:
        UserError: A method cannot be read, is listed twice, or none of them has scales.
    """
    parts: list[str] = []
    for part in text.split(","):
        if parts and "=" in parts[-1] and part.partition("+")[0] not in configurations():
            parts[-1] += f",{part}"
        else:
            parts.append(part.strip())
    named = [_parse(part) for part in parts]
    methods = [each for method in named for each in _with_scales(method, scales)]
    if scales and methods == named:
        raise UserError(f"--scales: no method of --cfgs={text[:100]} takes them; name one that does, such as msconD")
    labels = [method.label for method in methods]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"--cfgs: {label} is listed twice; name each method once")
    return methods


def _parse(text: str) -> Method:
    cfg, *additions = text.split("+")
    if cfg not in configurations():
        raise UserError(f"--cfgs: there is no configuration {cfg[:100]!a}; choose from {', '.join(configurations())}")
    options: list[tuple[str, str | None]] = []
    for addition in additions:
        name, has_value, value = addition.partition("=")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or (has_value and not value) or not value.isprintable():
            raise UserError(f"--cfgs: {addition[:100]!a} in {text[:100]!a} is not of the form option or option=value")
        if has_value and name in _known_augmentations():
            raise UserError(f"--cfgs: {addition[:100]!a} in {text[:100]!a} has a value, but an augmentation takes none")
        if name in COMMON_FLAGS:
            raise UserError(f"--cfgs: {text[:100]!a} sets --{name}, which is common to all methods; leave it out")
        options.append((name, value if has_value else None))
    if len([name for name, _value in options if name == "aug" or name in _known_augmentations()]) > 1:
        raise UserError(f"--cfgs: {text[:100]!a} names two augmentations; choose one")
    return Method(cfg, tuple(options))


def check_common(flags: Sequence[str], methods: Sequence[Method]) -> None:
    """Check flags that are to be added to all methods.

    Args:
        flags: Words of a command line.
        methods: The methods.

    Raises:
        UserError: ``compare.py`` sets one of them itself, or a method has chosen its own value.
    """
    names = [word.lstrip("-").partition("=")[0] for word in flags if word.startswith("-")]
    for name in names:
        if name in OWN_FLAGS:
            raise UserError(f"--extra sets --{name[:100]}, which compare.py sets itself; leave it out")
        for method in methods:
            chosen = {"aug" if option in _known_augmentations() else option for option, _value in method.options}
            if name in chosen:
                raise UserError(f"--extra sets --{name}, and so does {method.label}; leave it out of one of them")


def _with_scales(method: Method, scales: Sequence[str]) -> list[Method]:
    is_chosen = any(name == "scales" for name, _value in method.options)
    if is_chosen or not scales or "scales" not in configurations()[method.cfg].settings:
        return [method]
    return [Method(method.cfg, (*method.options, ("scales", each))) for each in scales]


def is_pretrained(cfg: str) -> bool:
    """Return whether D uses a pretrained backbone, which Frechet distances may favor."""
    return configurations()[cfg].is_pretrained
