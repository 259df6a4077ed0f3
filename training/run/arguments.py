"""Types of the arguments of classes that an options file names, checked before anything is constructed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import torch

from dnnlib.errors import UserError
from dnnlib.object_names import construct_class_by_name, get_obj_by_name
from training.data.names import shown
from training.networks import (
    DiscriminatorBlock,
    DiscriminatorEpilogue,
    MappingNetwork,
    SynthesisBlock,
    SynthesisLayer,
    SynthesisNetwork,
)
from training.run.json_types import check_type
from training.run.registry import configurations
from training.run.roles import allowed_classes

PARTS: dict[str, tuple[type, ...]] = {
    "mapping_kwargs": (MappingNetwork,),
    "synthesis_kwargs": (SynthesisLayer, SynthesisBlock, SynthesisNetwork),
    "block_kwargs": (DiscriminatorBlock,),
    "epilogue_kwargs": (DiscriminatorEpilogue,),
}
"""The parts of networks that take the arguments of these names; each also passes on those that it does not know."""


def check_argument_types(kwargs: Mapping[str, Any], where: str) -> None:
    """Compare the arguments of classes with the annotations of their constructors; imports the classes.

    Args:
        kwargs: Arguments of the training loop, whose classes are allowed (`training.run.roles`).
        where: The file, for the error.

    Raises:
        UserError: An argument has the wrong type.
    """
    for role in allowed_classes():
        settings = kwargs.get(role) or []
        for arguments in settings if isinstance(settings, list) else [settings]:
            annotations = {**_setting_annotations(), **_annotations(get_obj_by_name(arguments["class_name"]))}
            _check(arguments, annotations, f"{where}: {role}")


def _check(arguments: Mapping[str, Any], annotations: Mapping[str, Any], where: str) -> None:
    for name, value in arguments.items():
        check_type(value, annotations.get(name, Any), f"{where}.{name}")
        if name in PARTS:
            _check(value, _annotations(*PARTS[name]), f"{where}.{name}")


def check_constructors(kwargs: Mapping[str, Any], where: str) -> None:
    """Construct the optimizers, of one parameter, and the augmentation pipe, which refuse values that make no sense.

    Args:
        kwargs: Arguments of the training loop that `check_argument_types` accepts.
        where: The file, for the error.

    Raises:
        UserError: One of them cannot be constructed.
    """
    optimized: dict[str, Any] = {"params": [torch.nn.Parameter(torch.zeros(1))]}
    for role, others in {"G_opt_kwargs": optimized, "D_opt_kwargs": optimized, "augment_kwargs": {}}.items():
        try:
            if kwargs.get(role):
                construct_class_by_name(**kwargs[role], **others)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{where}: {role} cannot be used: {shown(str(error))}") from error


@functools.cache
def _annotations(*classes: type) -> dict[str, Any]:
    """Return the annotations of the arguments of classes by name, with those that a class passes on to its bases."""
    origins = [base for each in classes for base in reversed(each.__mro__) if "__init__" in vars(base)]
    return {name: hint for base in origins for name, hint in _hints(vars(base)["__init__"]).items()}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, none if they name types that only type checkers import."""
    try:
        hints = get_type_hints(function)
    except (AttributeError, NameError, TypeError):
        return {}
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    return {name: hint | None if defaults.get(name, hint) is None else hint for name, hint in hints.items()}


@functools.cache
def _setting_annotations() -> dict[str, Any]:
    """Return those of the settings of methods, which their classes may take as ``**kwargs``."""
    methods = configurations().values()
    groups = {group for each in methods for group in (each.G_settings, each.D_settings, each.loss_settings)}
    return {name: hint for group in groups for name, hint in get_type_hints(group).items()}
