"""All modules of this project below the name of this one: ``mscond.modules.training.networks``, and so on.

The sources import each other as ``training.networks``, ``metrics.metric_main`` ..., names that snapshots rely on. In
somebody else's program these names may belong to their own modules. So here the same files are imported below a name
that is ours, and their import statements find each other there: each module gets an ``__import__`` of its own, by its
``__builtins__``. Nothing is added to ``sys.path``, and no module of another name to ``sys.modules``.

`CODE` is the folder that the files lie in. Commands, whose process is ours, have it first on ``sys.path`` instead.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).parent
CODE = _HERE / "code" if (_HERE / "code").is_dir() else _HERE.parent
"""Holds ``train.py``, ``training/`` and the others: a folder of the installed package, or a checkout."""
__path__ = [str(CODE)]


def is_ours(name: str) -> bool:
    """Return whether a dotted name, as the sources write it, is that of a module of this project."""
    top = CODE / name.partition(".")[0]
    return top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Do what an import statement in one of our modules asks for."""
    if level > 0 or not is_ours(name):
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = builtins.__import__(f"{__name__}.{name}", globals, locals, fromlist, 0)
    return module if fromlist else sys.modules[f"{__name__}.{name.partition('.')[0]}"]


_BUILTINS = {**vars(builtins), "__import__": _import}


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = _BUILTINS
        super().exec_module(module)


class _Finder:
    """Finds what is below this module, and nothing else."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(__name__ + "."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder)  # here: a process that unpickles one of our objects imports only its module
