"""A table of the parts of a network.

torchinfo does not serve here: it counts no buffers, counts shared parameters twice and does not return the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

HEADER = ("Module", "Class", "Parameters", "Buffers", "Output", "Type")


def print_module_summary(
    module: torch.nn.Module, inputs: Sequence[Any], max_nesting: int = 3, skip_redundant: bool = True
) -> Any:
    """Run ``module(*inputs)`` once without gradients, print one line per submodule and return the outputs.

    Every parameter, buffer and output is counted once, in elements: on the line of the innermost submodule that has it.

    Args:
        module: The network; its training mode is not changed.
        inputs: Positional arguments of its forward.
        max_nesting: Maximum number of parts in the dotted name of a submodule that gets a line.
        skip_redundant: Leave out submodules without parameters, buffers and outputs of their own.
    """
    calls: list[tuple[str, torch.nn.Module, list[torch.Tensor]]] = []

    def record(name: str) -> Any:
        return lambda submodule, _inputs, outputs: calls.append((name, submodule, _tensors_in(outputs)))

    handles = [
        submodule.register_forward_hook(record(name))
        for name, submodule in module.named_modules()
        if name.count(".") < max_nesting
    ]
    try:
        with torch.no_grad():
            outputs = module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    print(_format(_rows(calls, type(module).__name__, skip_redundant)), flush=True)
    return outputs


def _rows(
    calls: list[tuple[str, torch.nn.Module, list[torch.Tensor]]], title: str, skip_redundant: bool
) -> list[Sequence[str]]:
    counted: set[int] = set()  # id of the modules and tensors shown so far

    def count_new(tensors: Any) -> int:
        new = {id(tensor): tensor.numel() for tensor in tensors if id(tensor) not in counted}
        counted.update(new)
        return sum(new.values())

    rows: list[Sequence[str]] = []
    total_params = total_buffers = 0
    for name, submodule, outputs in calls:
        if id(submodule) in counted:
            continue
        counted.add(id(submodule))
        num_params = count_new(submodule.parameters())
        num_buffers = count_new(submodule.buffers())
        num_outputs = count_new(outputs)
        if skip_redundant and not (num_params or num_buffers or num_outputs):
            continue
        total_params += num_params
        total_buffers += num_buffers
        shapes = ", ".join(str(list(tensor.shape)) for tensor in outputs) or "-"
        dtypes = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in outputs})) or "-"
        path = f"{title}.{name}" if name else title
        rows.append((path, type(submodule).__name__, str(num_params), str(num_buffers), shapes, dtypes))
    return [HEADER, *rows, ("Total", "", str(total_params), str(total_buffers), "", "")]


def _tensors_in(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = outputs.values()
    elif not isinstance(outputs, (list, tuple)):
        return []
    return [tensor for output in outputs for tensor in _tensors_in(output)]


def _format(rows: list[Sequence[str]]) -> str:
    """Align the columns, those of numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    aligns = "<<>><<"
    lines = (
        "  ".join(f"{cell:{align}{width}}" for cell, align, width in zip(row, aligns, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(["", *lines, ""])
