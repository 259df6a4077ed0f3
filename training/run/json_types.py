"""Types of values that come from a JSON file, compared with the annotations of what they are for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from torch import Tensor

from dnnlib.errors import UserError
from training.data.names import shown

_WORDS = {
    NoneType: "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    dict: "an object in braces",
    Mapping: "an object in braces",
}
"""What a file may hold, by type; a list is described by its items."""


def check_type(value: Any, hint: Any, where: str) -> None:
    """Check a value against a type annotation.

    Args:
        value: A value as the module json returns it, or a tuple in place of a list.
        hint: The annotation; a class that is none of JSON's types allows everything, except a tensor.
        where: The file and the name of the value, for the error.

    Raises:
        UserError: The value has another type.
    """
    if not _has_type(value, hint):
        raise UserError(f"{where} is {shown(json.dumps(value))}, allowed: {_describe(hint) or 'nothing'}")


def _has_type(value: Any, hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return any(_has_type(value, each) for each in get_args(hint))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in (list, tuple, Sequence):
        is_list = isinstance(value, list | tuple)
        return is_list and len(items := _items(hint, len(value))) == len(value) and all(map(_has_type, value, items))
    if kind in _WORDS:
        return isinstance(value, kind)
    return kind is not Tensor  # which no file holds; a string may stand for a path or a device


def _items(hint: Any, num: int) -> Sequence[Any]:
    """Return the types of the items of a list of a given length."""
    items = get_args(hint)
    return items if _has_fixed_length(hint) else (items[:1] or (Any,)) * num


def _has_fixed_length(hint: Any) -> bool:
    return get_origin(hint) is tuple and get_args(hint)[-1:] != (...,)


def _describe(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return " or ".join(filter(None, map(_describe, get_args(hint))))
    if kind in (list, tuple, Sequence):
        items = ", ".join(filter(None, map(_describe, _items(hint, 1))))
        more = "" if _has_fixed_length(hint) else ", ..."
        return f"a list [{items}{more}]" if items else "a list"
    return _WORDS.get(kind, "")
