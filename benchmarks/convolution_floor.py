"""The time that the convolutions of a piece of work need by themselves: the floor of any code around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.meter import GROUPS_ARGUMENT


class _Layout(NamedTuple):
    """What the speed of a convolution depends on in a tensor."""

    shape: torch.Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Layout:
        return cls(tensor.shape, tensor.stride())

    def random(self) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.stride).normal_()


class _Recorder(TorchDispatchMode):
    """Notes every call of a convolution, with shapes and strides in place of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Depthwise calls are low-pass filters, not layers of the network: they belong to the work around.
        groups = GROUPS_ARGUMENT.get(func._schema.name)
        if groups is not None and args[groups] == 1:
            self.calls.append((func, [_Layout.of(arg) if isinstance(arg, torch.Tensor) else arg for arg in args]))
        return func(*args, **(kwargs or {}))


def record_convolutions(work: Callable[[], None]) -> Callable[[], None]:
    """Run ``work`` once, and return a function that repeats nothing but its convolutions.

    They are forward passes, data gradients and weight gradients with the same geometry and memory layout, on random
    tensors.
    """
    with _Recorder() as recorder:
        work()
    tensors: dict[_Layout, torch.Tensor] = {}
    for _func, args in recorder.calls:
        tensors.update({arg: arg.random() for arg in args if isinstance(arg, _Layout) and arg not in tensors})
    calls = [
        (func, [tensors[arg] if isinstance(arg, _Layout) else arg for arg in args]) for func, args in recorder.calls
    ]

    def replay() -> None:
        for func, args in calls:
            func(*args)

    return replay
