"""Operators of backward passes are traced to the line of their forward pass."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.sources import Sources, innermost_line
from torch_utils import misc
from torch_utils.ops import bias_act
from training.loss import generator_loss, r1_penalty

FORWARD = "training/loss.py:"


class Record(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.lines = []
        self._sources = Sources()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.lines.append(self._sources.current())
        return func(*args, **(kwargs or {}))


def lines_of(work):
    with Record() as record:
        work()
    return record.lines


def test_forward_and_backward_pass_of_a_line():
    logits = torch.ones([3, 1], requires_grad=True)
    result = []
    forward = lines_of(lambda: result.append(generator_loss(logits)))
    assert forward
    assert all(line.startswith(FORWARD) and line.endswith(" generator_loss") for line in forward)
    with Record() as record:
        loss = generator_loss(logits)
        num_forward = len(record.lines)
        torch.autograd.grad(loss.sum(), logits)
    assert f"grad of {forward[0]}" in record.lines[num_forward:]


def test_second_derivatives_and_autograd_functions():
    img = torch.ones([2, 3, 4, 4], requires_grad=True)
    weight = torch.ones([3, 1, 1], requires_grad=True)

    def work():
        scores = bias_act.bias_act(img * weight, torch.ones([3]), act="lrelu").square().sum(dim=[1, 2, 3])
        r1_penalty(scores, img).sum().backward()

    lines = lines_of(work)
    assert any(line.startswith("grad of torch_utils/ops/bias_act.py:") for line in lines)
    assert any(line.startswith("grad of grad of torch_utils/ops/bias_act.py:") for line in lines)
    assert any(line.startswith("grad of training/loss.py:") and line.endswith(" r1_penalty") for line in lines)


def test_the_caller_of_shared_code_is_told():
    def report():
        return innermost_line()

    assert innermost_line() == "unknown"  # tests do not belong to the project
    assert report() == "unknown"
    (line, *_others) = lines_of(lambda: misc.constant([1.0, 3.0], shape=[5, 2]))
    assert line.startswith("torch_utils/misc.py:")
    logits = torch.ones([3, 1], requires_grad=True)
    (line, *_others) = lines_of(lambda: generator_loss(logits))
    assert " > " not in line
