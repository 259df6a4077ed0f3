"""The recorded convolutions are those of the work, in its memory layout, without low-pass filters."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.convolution_floor import record_convolutions


class Log(TorchDispatchMode):
    """Shapes and strides of the tensors of each convolution."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "convolution" in func.name():
            tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
            self.calls.append((func.name(), [(tensor.shape, tensor.stride()) for tensor in tensors]))
        return func(*args, **(kwargs or {}))


def test_the_floor_is_the_convolutions_of_the_work():
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(6, 4, 3, 3, requires_grad=True)
    lowpass = torch.ones(4, 1, 4, 4)

    def convolve():
        torch.nn.functional.conv2d(x, weight).square().sum().backward()

    def work():
        torch.nn.functional.conv2d(x, lowpass, groups=4)
        convolve()

    with Log() as expected:
        convolve()
    replay = record_convolutions(work)
    with Log() as replayed:
        replay()
        replay()
    assert [name for name, _ in expected.calls] == ["aten::convolution", "aten::convolution_backward"]
    assert replayed.calls == expected.calls * 2
