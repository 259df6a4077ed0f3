"""Objects whose pickles carry the source of their class.

A persistent object pickles as a call of `_reconstruct_persistent_obj` with one dict (docs/compatibility.md)::

    type        'class'
    version     6
    module_src  source text of the module that defines the class
    class_name  name of the class at the top level of that module
    state       __dict__ of the object, with '_init_args' and '_init_kwargs'

Plain unpickling of such a file executes ``module_src``, so do that with trusted files only.
``legacy.load_network_pkl`` reads the same files without executing anything (docs/security.md).
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import linecache
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from dnnlib.errors import UserError
from dnnlib.util import EasyDict

VERSION = 6
"""The layout of the dict above."""

T = TypeVar("T")
Hook = Callable[[EasyDict], "EasyDict | None"]

_hooks: list[Hook] = []
_classes: dict[tuple[str, str], type] = {}  # (module_src, class_name) -> the class
_SOURCE = "_persistent_module_src"  # set on a persistent class itself and on modules made of a pickle's source


def persistent_class(cls: type[T]) -> type[T]:
    """Class decorator: pickles of the class carry its source and can be read where the class does not exist.

    Objects get ``init_args`` and ``init_kwargs``: fresh deep copies of what their constructor was called with.
    The class must stand at the top level of a module that imports only what will exist wherever the pickle is
    read. A subclass is persistent only if it is decorated too; otherwise it pickles in the ordinary way.

    Raises:
        ValueError: The class is nested, or the source of its module cannot be read (a notebook or a console).
    """
    if cls.__qualname__ != cls.__name__:
        raise ValueError(f"persistent class '{cls.__qualname__}' must be defined at the top level of its module")
    target: Any = cls
    construct = target.__init__

    @functools.wraps(construct)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is cls:
            self.__dict__["_init_args"] = _copy_argument(cls, args)
            self.__dict__["_init_kwargs"] = _copy_argument(cls, kwargs)
        construct(self, *args, **kwargs)

    def reduce_ex(self: Any, protocol: Any) -> Any:
        if type(self) is cls:
            return _reconstruct_persistent_obj, (_describe(self),)
        return super(target, self).__reduce_ex__(protocol)

    source = _source_of_module(cls)
    setattr(cls, _SOURCE, source)
    target.__init__ = init
    target.__reduce_ex__ = reduce_ex
    target.init_args = property(lambda self: copy.deepcopy(self._init_args))
    target.init_kwargs = property(lambda self: EasyDict(copy.deepcopy(self._init_kwargs)))
    _classes[source, cls.__name__] = cls
    return cls


def is_persistent(obj: Any) -> bool:
    """Return whether ``obj`` is a persistent class or an object of one."""
    return _SOURCE in vars(obj if isinstance(obj, type) else type(obj))


def import_hook(hook: Hook) -> Hook:
    """Let ``hook`` see and edit the dict of every persistent object before it is rebuilt; usable as a decorator.

    The hook gets the dict of the module docstring as an `EasyDict` and returns it, or None after editing it in place.
    """
    if not callable(hook):
        raise ValueError(f"import_hook: got a {type(hook).__name__}, expected a function")
    _hooks.append(hook)
    return hook


def read_meta(meta: dict[str, Any]) -> EasyDict:
    """Check the dict of a persistent object and pass it through the import hooks; executes nothing of it.

    Raises:
        UserError: It is not of the known layout.
    """
    meta = EasyDict(meta)
    if meta.get("type") != "class" or meta.get("version") != VERSION:
        found = f"type {_shown(meta.get('type'))}, version {_shown(meta.get('version'))}"
        raise UserError(f"persistent object in the pickle: {found}; only type 'class', version {VERSION} is supported")
    for key, kind in (("module_src", str), ("class_name", str), ("state", dict)):
        if not isinstance(meta.get(key), kind):
            raise UserError(f"persistent object in the pickle: '{key}' is missing or not a {kind.__name__}")
    meta.state = EasyDict(meta.state)
    for hook in _hooks:
        edited = hook(meta)
        meta = meta if edited is None else edited
    return meta


def _shown(value: Any) -> str:
    """Return a value out of a file as it may be printed; containers, which may contain themselves, by their type."""
    if isinstance(value, str):
        return f"{value[:100]!a}"
    return str(value) if isinstance(value, int) and value.bit_length() < 64 else f"of type {type(value).__name__}"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    """Rebuild a persistent object. Pickle calls this: **it executes the source in the pickle**, once per source."""
    meta = read_meta(meta)
    key = (meta.module_src, meta.class_name)
    if key not in _classes:
        _execute(meta.module_src)
    if key not in _classes:
        raise ValueError(f"persistent object in the pickle: its source defines no class {_shown(meta.class_name)}")
    cls: Any = _classes[key]
    obj = cls.__new__(cls)
    if hasattr(obj, "__setstate__"):
        obj.__setstate__(meta.state)
    else:
        obj.__dict__.update(meta.state)
    return obj


def _describe(obj: Any) -> dict[str, Any]:
    # Before Python 3.11 plain objects have no __getstate__.
    state = obj.__getstate__() if hasattr(obj, "__getstate__") else obj.__dict__
    cls = type(obj)
    if not isinstance(state, dict):  # of __slots__ or a __getstate__; no reader would take it
        raise ValueError(f"{cls.__name__}: its state is a {type(state).__name__}, not a dict, hence cannot be pickled")
    return {
        "type": "class",
        "version": VERSION,
        "module_src": getattr(cls, _SOURCE),
        "class_name": cls.__name__,
        "state": state,
    }


def _copy_argument(cls: type, arguments: Any) -> Any:
    # The constructor may change its arguments, so the copy is taken first. What cannot be copied cannot be pickled
    # either, which the user should learn now and not at the first snapshot.
    try:
        return copy.deepcopy(arguments)
    except Exception as err:
        raise ValueError(f"{cls.__name__}: a constructor argument cannot be copied, hence not pickled ({err})") from err


def _source_of_module(cls: type) -> str:
    """Return the source of the module that is just defining ``cls``; read now, as the file may change later."""
    module = sys.modules.get(cls.__module__)
    if module is not None and hasattr(module, _SOURCE):
        return getattr(module, _SOURCE)
    try:
        return inspect.getsource(module)  # type: ignore[arg-type]
    except (OSError, TypeError) as err:
        raise ValueError(
            f"persistent class '{cls.__name__}': no source for module '{cls.__module__}'; define it in a file"
        ) from err


def _execute(source: str) -> None:
    """Run ``source`` as a module of its own, whose persistent classes register themselves."""
    name = "_persistent_" + hashlib.sha256(source.encode()).hexdigest()[:16]
    module = ModuleType(name)
    setattr(module, _SOURCE, source)
    linecache.cache[f"<{name}>"] = (len(source), None, source.splitlines(keepends=True), f"<{name}>")  # for tracebacks
    sys.modules[name] = module
    try:
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
