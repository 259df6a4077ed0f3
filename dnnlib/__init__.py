"""Helpers that need no torch: dictionaries with attributes, objects by name, logs, downloads."""

from . import util
from .util import (
    EasyDict,
    Logger,
    call_func_by_name,
    construct_class_by_name,
    format_time,
    get_obj_by_name,
    is_url,
    make_cache_dir_path,
    open_url,
    set_cache_dir,
)

__all__ = [
    "EasyDict",
    "Logger",
    "call_func_by_name",
    "construct_class_by_name",
    "format_time",
    "get_obj_by_name",
    "is_url",
    "make_cache_dir_path",
    "open_url",
    "set_cache_dir",
    "util",
]
