"""Building native extensions. This project ships none and needs none; this is for code that brings its own."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

verbosity = "brief"
"""What `get_plugin` prints: ``'none'``, ``'brief'`` (one line per build) or ``'full'`` (the compiler's output too)."""

_plugins: dict[str, ModuleType] = {}


def get_plugin(module_name: str, sources: Sequence[str], **build_kwargs: Any) -> ModuleType:
    """Compile a PyTorch extension at its first use and import it.

    Args:
        module_name: Name of the extension; the first call for a name decides.
        sources: Paths of its C++ and CUDA files.
        **build_kwargs: Passed to `torch.utils.cpp_extension.load`.

    Raises:
        ValueError: `verbosity` is none of its values.
        RuntimeError: No compiler, or the build failed.
    """
    if verbosity not in ("none", "brief", "full"):
        raise ValueError(f"custom_ops.verbosity is {verbosity!r}, expected 'none', 'brief' or 'full'")
    if module_name not in _plugins:
        from torch.utils import cpp_extension  # imports setuptools, which takes a while

        if verbosity != "none":
            print(f"Building {module_name}", flush=True)
        build_kwargs.setdefault("verbose", verbosity == "full")
        _plugins[module_name] = cpp_extension.load(name=module_name, sources=list(sources), **build_kwargs)
    return _plugins[module_name]
