"""The values of ``--cfg`` and ``--aug`` and the extensions, to which methods add their own (docs/extending.md).

A method is a folder at the top level with a ``config.py`` that defines any of ``CONFIGURATIONS``, ``AUGMENTATIONS`` and
``EXTENSIONS``, sequences of the classes below; it is found in a plain clone. Installed packages announce theirs by
entry points of the groups ``mscond.configurations`` and so on, each of which names such a sequence. Nothing here
imports torch, so that ``--help`` is fast; neither should a ``config.py``.

The settings of a method are the fields of a dataclass. Each becomes a keyword argument of the method's class, and a
flag of the same name::

    @dataclass(frozen=True, kw_only=True)
    class HeadSettings:
        num_heads: int = setting(4, click.IntRange(min=1), "Heads of D.")

Values are stored as JSON.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import click

from dnnlib.object_names import HOME, get_obj_by_name
from training.run.presets import PRESETS, Preset, auto_preset


def setting(default: Any, type: click.ParamType, help: str, source: str | None = None) -> Any:
    """Declare a setting as a field of a dataclass.

    Args:
        default: Its default; not a list, which all instances would share.
        type: Its legal values.
        help: One line for ``--help``.
        source: Where the default comes from, or who has another.
    """
    return field(default=default, metadata={"type": type, "help": help, "source": source})


@dataclass(frozen=True)
class NoSettings:
    """Settings of a class that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One value of ``--cfg``: hyperparameters, the classes to train with, and their settings."""

    name: str
    preset: Callable[[int, int], Preset]
    """(resolution, number of GPUs) -> hyperparameters."""
    generator: str = "training.networks.Generator"
    discriminator: str = "training.networks.Discriminator"
    loss: str = "training.loss.StyleGAN2Loss"
    G_settings: type = NoSettings
    """Dataclass of the generator's settings."""
    D_settings: type = NoSettings
    """Dataclass of the discriminator's settings."""
    loss_settings: type = NoSettings
    """Dataclass of the loss's settings."""
    D_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the discriminator."""
    loss_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the loss."""
    training_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the training loop, such as ``D_reg_interval``."""
    aug: str = "ada"
    """Default of ``--aug``."""
    is_pretrained: bool = False
    """Whether D has a pretrained backbone, which distances in features of related networks favor."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of settings of ``aug``, where they differ from its own."""
    check: Callable[[Mapping[str, Any]], None] | None = None
    """Raises ValueError if the arguments of the training loop do not suit the method."""
    complete: Callable[[dict[str, Any]], None] | None = None
    """Changes arguments of the training loop that depend on others, such as on the number of images."""

    @property
    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """Return the settings of all classes by name."""
        return _by_setting_name(self.G_settings, self.D_settings, self.loss_settings)


@dataclass(frozen=True, kw_only=True)
class AugmentationOption:
    """One value of ``--aug``: a module that augments the input of D, without an adaptive probability."""

    name: str
    class_name: str
    settings_class: type = NoSettings

    @property
    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """Return the settings by name."""
        return _by_setting_name(self.settings_class)


@dataclass(frozen=True, kw_only=True)
class ExtensionOption:
    """A `training.extensions.Extension` that can be combined with any ``--cfg``.

    It is in use if its first setting, which has the name of the extension, differs from the default.
    """

    name: str
    class_name: str
    settings_class: type
    check: Callable[[Mapping[str, Any]], None] | None = None
    """Raises ValueError, naming the flag, if the extension has no meaning with the arguments of the training loop."""
    complete: Callable[[dict[str, Any]], None] | None = None
    """Changes arguments of the training loop that depend on others, as for `Configuration`."""

    @property
    def settings(self) -> dict[str, dataclasses.Field[Any]]:
        """Return the settings by name."""
        return _by_setting_name(self.settings_class)

    def is_used(self, given: Mapping[str, Any]) -> bool:
        """Return whether the settings on the command line switch it on."""
        return bool(given.get(self.name, self.settings[self.name].default) != self.settings[self.name].default)


def _by_setting_name(*classes: type) -> dict[str, dataclasses.Field[Any]]:
    return {each.name: each for settings in classes for each in dataclasses.fields(settings)}


def setting_values(settings: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all settings of a dataclass: those in ``given``, which may hold others too, or the defaults.

    Raises:
        ValueError: The dataclass refuses a value.
    """
    names = _by_setting_name(settings)
    return dataclasses.asdict(settings(**{name: value for name, value in given.items() if name in names}))


AnyOption = Configuration | AugmentationOption | ExtensionOption
Option = TypeVar("Option", Configuration, AugmentationOption, ExtensionOption)


@functools.cache
def configurations() -> dict[str, Configuration]:
    """Return all values of ``--cfg``: StyleGAN2-ADA's, those of the method folders, those of installed packages.

    Raises:
        ValueError: Two of them have the same name.
    """
    return _by_name("cfg", [*_own(), *_found("configurations")])


@functools.cache
def augmentations() -> dict[str, AugmentationOption]:
    """Return the values of ``--aug`` that methods add to 'noaug', 'ada' and 'fixed', found as `configurations`."""
    return _by_name("aug", _found("augmentations"))


@functools.cache
def extensions() -> dict[str, ExtensionOption]:
    """Return what can be combined with any ``--cfg``, by the flag that switches it on, found as `configurations`."""
    return _by_name("", _found("extensions"))


def used_extensions(given: Mapping[str, Any]) -> list[ExtensionOption]:
    """Return the extensions that these settings switch on."""
    return [option for option in extensions().values() if option.is_used(given)]


def _by_name(flag: str, options: Iterable[tuple[str, Option]]) -> dict[str, Option]:
    found: dict[str, Option] = {}
    origins: dict[str, str] = {}
    for origin, option in options:
        if option.name in found:
            shown = f"--{flag}={option.name}" if flag else f"--{option.name}"
            raise ValueError(
                f"{shown} is defined by both {origins[option.name]} and {origin}; rename or remove one of the methods"
            )
        found[option.name], origins[option.name] = option, origin
    return found


def _own() -> Iterator[tuple[str, Configuration]]:
    yield __name__, Configuration(name="auto", preset=auto_preset)
    for name, preset in PRESETS.items():
        yield __name__, Configuration(name=name, preset=constant(preset))


def constant(preset: Preset) -> Callable[[int, int], Preset]:
    """Use the same hyperparameters for every resolution and number of GPUs."""
    return lambda resolution, num_gpus: preset


def _found(kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the options of one kind that methods define, each with where."""
    root = Path(__file__).parents[2]
    for path in sorted(root.glob("*/config.py")):
        if (path.parent / "__init__.py").exists():
            for option in getattr(get_obj_by_name(f"{path.parent.name}.config"), kind.upper(), ()):
                yield str(path.parent), option
    if not HOME:  # other packages import this one by the names that it has in commands
        for entry_point in entry_points(group=f"mscond.{kind}"):
            for option in entry_point.load():
                yield str(entry_point), option
