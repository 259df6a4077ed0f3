"""`EasyDict`, and what else users of StyleGAN2-ADA import from here: names of the modules beside this one."""

from __future__ import annotations

from typing import Any

from dnnlib.cache_folder import make_cache_dir_path, set_cache_dir
from dnnlib.errors import UserError
from dnnlib.formatting import format_time
from dnnlib.logger import Logger
from dnnlib.object_names import call_func_by_name, construct_class_by_name, get_obj_by_name
from dnnlib.urls import is_url, open_url

__all__ = [
    "EasyDict",
    "Logger",
    "UserError",
    "call_func_by_name",
    "construct_class_by_name",
    "format_time",
    "get_obj_by_name",
    "is_url",
    "make_cache_dir_path",
    "open_url",
    "set_cache_dir",
]


class EasyDict(dict):
    """A dict whose string keys are also attributes: ``d.lr = 1`` means ``d['lr'] = 1``.

    Pickles of StyleGAN2-ADA refer to this class by the name of this module (docs/compatibility.md).
    """

    def __getattr__(self, key: str) -> Any:
        self._require(key)
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        self._require(key)
        del self[key]

    def _require(self, key: str) -> None:
        if key not in self:
            raise AttributeError(f"no key {key[:100]!a}", name=key, obj=self)
