"""Modules, functions and classes by dotted names."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from dnnlib.errors import UserError

HOME = __name__.removesuffix("dnnlib.object_names")
"""What the names of this project's modules begin with here: nothing, or ``mscond.modules.`` in programs of others."""


def name_of_class(cls: type) -> str:
    """Return the dotted name that `get_obj_by_name` finds a class by, for files: ours without `HOME`."""
    return f"{cls.__module__.removeprefix(HOME)}.{cls.__qualname__}"


def module_name_here(module_name: str) -> str:
    """Return the name of a module in this process; ours may be below `HOME`."""
    is_below = HOME and importlib.util.find_spec(HOME + module_name.partition(".")[0]) is not None
    return HOME + module_name if is_below else module_name


def get_obj_by_name(name: str) -> Any:
    """Import the object with a dotted path, e.g. ``'training.networks.Generator'`` or ``'torch.optim.Adam'``.

    Raises:
        UserError: There is no module or attribute of that name. Errors inside an existing module pass through.
    """
    parts = name.split(".")
    for num_module_parts in range(len(parts) if all(parts) else 0, 0, -1):
        module_name = module_name_here(".".join(parts[:num_module_parts]))
        try:
            obj: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as err:
            if err.name is None or not (module_name + ".").startswith(err.name + "."):
                raise
            continue
        try:
            for attribute in parts[num_module_parts:]:
                obj = getattr(obj, attribute)
        except AttributeError:
            break
        return obj
    raise UserError(f"cannot find {name[:100]!a}: give the full dotted path of a function or class")


def call_func_by_name(*args: Any, func_name: str, **kwargs: Any) -> Any:
    """Call the function with the dotted path ``func_name``; see `get_obj_by_name` for errors."""
    return _call(func_name, args, kwargs)


def construct_class_by_name(*args: Any, class_name: str, **kwargs: Any) -> Any:
    """Construct an instance of the class with the dotted path ``class_name``; see `get_obj_by_name` for errors."""
    return _call(class_name, args, kwargs)


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    target = get_obj_by_name(name)
    if not callable(target):
        raise UserError(f"{name[:100]!a} is a {type(target).__name__}: give a function or a class")
    return target(*args, **kwargs)
