"""Compiling native extensions, for code that brings its own; this project ships none and needs none.

Compiling takes a C++ compiler, for CUDA files also its toolkit, and ninja (``pip install mscond[extensions]``).
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

verbosity = "brief"
"""What `get_plugin` prints: ``'none'``, ``'brief'`` (one line per build) or ``'full'`` (the compiler's output too)."""

_plugins: dict[str, ModuleType] = {}


def get_plugin(module_name: str, sources: Sequence[str], **build_kwargs: Any) -> ModuleType:
    """Compile a PyTorch extension at its first use and import it.

    Args:
        module_name: Name of the extension. Later calls with the same name return the first result.
        sources: Paths of its C++ and CUDA files.
        **build_kwargs: Passed to `torch.utils.cpp_extension.load`.

    Raises:
        ValueError: `verbosity` has none of its values.
        RuntimeError: There is no compiler or no ninja, or the build failed.
    """
    if verbosity not in ("none", "brief", "full"):
        raise ValueError(f"custom_ops.verbosity is {verbosity!r}, expected 'none', 'brief' or 'full'")
    if module_name not in _plugins:
        from torch.utils import cpp_extension  # imports setuptools, which is slow

        if verbosity != "none":
            print(f"Building {module_name}", flush=True)
        build_kwargs.setdefault("verbose", verbosity == "full")
        with _installed_programs_on_path():
            _plugins[module_name] = cpp_extension.load(name=module_name, sources=list(sources), **build_kwargs)
    return _plugins[module_name]


@contextmanager
def _installed_programs_on_path() -> Iterator[None]:
    """Let programs that came with Python packages, such as ninja, be found even if the environment is not activated."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([before, sysconfig.get_path("scripts")])
    try:
        yield
    finally:
        os.environ["PATH"] = before
