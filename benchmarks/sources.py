"""Which line of this project an operator comes from, in forward and backward passes."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_CODE = "torch_utils/"
"""Code of many users: its caller is named too."""
OUTSIDE = ("benchmarks/", "tests/", ".venv/", "torch_utils/ops/kernels.py")


class Sources:
    """Knows the line that runs now.

    Autograd runs operators of a backward pass long after the line that they belong to. Nodes of its graph are
    numbered, and the first operator after a node's creation is its forward pass; so the line is kept by the number.
    """

    def __init__(self) -> None:
        self._of_node: dict[int, str] = {}

    def current(self) -> str:
        """Return ``path:line function``, after ``caller >`` in shared code and ``grad of`` in backward passes."""
        node = torch._C._current_autograd_node()
        source = innermost_line() if node is None else self._backward_source(node)
        self._of_node.setdefault(torch.autograd._get_sequence_nr() - 1, source)
        return source

    def _backward_source(self, node: torch.autograd.graph.Node) -> str:
        forward = self._of_node.get(node._sequence_nr())
        return f"grad of {forward}" if forward is not None else node.name()


def innermost_line() -> str:
    """Return the innermost line of this project on the stack."""
    frame: FrameType | None = sys._getframe(1)
    shared = None
    while frame is not None:
        path = _path_in_repository(frame.f_code)
        if path is not None:
            line = f"{path}:{frame.f_lineno} {frame.f_code.co_name}"
            if not path.startswith(SHARED_CODE):
                return line if shared is None else f"{line} > {shared}"
            shared = shared or line
        frame = frame.f_back
    return shared or "unknown"


@functools.cache
def _path_in_repository(code: CodeType) -> str | None:
    path = Path(code.co_filename)
    if not path.is_relative_to(REPOSITORY):
        return None
    relative = path.relative_to(REPOSITORY).as_posix()
    return None if relative.startswith(OUTSIDE) else relative
