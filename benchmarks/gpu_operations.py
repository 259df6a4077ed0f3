"""Parts of ``benchmarks.gpu``: what the device can do at best, and how near its operations come to that."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.meter import META, Meter
from benchmarks.timing import seconds_per_call
from torch_utils import doctor
from torch_utils.ops import bias_act, modulation, upfirdn2d

CLAMP = 256.0
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
NUM_COMPARED = 2
"""Images of the comparison with float64."""


@dataclass(frozen=True)
class Setup:
    """Where a part runs, and whether it only has to run at all."""

    device: torch.device
    is_quick: bool

    @property
    def repeats(self) -> int:
        """How often work is timed."""
        return 1 if self.is_quick else 30


def describe_machine(setup: Setup) -> dict[str, Any]:
    """Return versions and devices."""
    has_triton = importlib.util.find_spec("triton") is not None
    triton = importlib.import_module("triton").__version__ if has_triton else "not installed"
    return {**dict(doctor.machine()), "cudnn": torch.backends.cudnn.version(), "triton": triton}


def measure_ceilings(setup: Setup) -> dict[str, float]:
    """Measure PyTorch's copies, in GB/s read and written, and matrix products, in Tflop/s."""
    megabytes, side = (1, 64) if setup.is_quick else (1024, 8192)
    source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=setup.device)
    target = torch.empty_like(source)
    copy_sec = seconds_per_call(lambda: target.copy_(source), setup.device, setup.repeats)
    ceilings = {"copy_gb_per_sec": 2 * source.nbytes / copy_sec / 1e9}
    for name, dtype in DTYPES.items():
        a, b = torch.randn([2, side, side], device=setup.device).to(dtype)
        product_sec = seconds_per_call(lambda a=a, b=b: a @ b, setup.device, setup.repeats)  # type: ignore[misc]
        ceilings[f"matmul_{name}_tflop_per_sec"] = 2 * side**3 / product_sec / 1e12
    return ceilings


@dataclass(frozen=True)
class Operation:
    """An operation at a size at which training uses it."""

    call: Callable[..., Tensor]
    """(x, taps of the low-pass filter, others) -> y."""
    size_px: int = 256
    others: Callable[[int, int, int], list[Tensor]] = lambda num, channels, size_px: []
    """Tensors other than images. Those of one dimension at most, or [N, C], are differentiated, too."""


def _small(shape: list[int]) -> Tensor:
    return torch.rand(shape) / 4


OPERATIONS = {
    "bias_act": Operation(
        lambda x, taps, bias: bias_act.bias_act(x, bias.to(x.dtype), act="lrelu", clamp=CLAMP),
        others=lambda num, channels, size_px: [_small([channels])],
    ),
    "filter": Operation(lambda x, taps: upfirdn2d.upfirdn2d(x, taps, padding=1, gain=4), size_px=257),
    "upsample": Operation(lambda x, taps: upfirdn2d.upsample2d(x, taps), size_px=128),
    "downsample": Operation(lambda x, taps: upfirdn2d.downsample2d(x, taps)),
    "modulate": Operation(
        lambda x, taps, styles: modulation.modulate(x, styles),
        others=lambda num, channels, size_px: [torch.randn([num, channels])],
    ),
    "epilogue": Operation(
        lambda x, taps, dcoefs, noise, strength, bias: modulation.epilogue(
            x, dcoefs, noise, strength, bias, clamp=CLAMP
        ),
        others=lambda num, channels, size_px: [
            1 + _small([num, channels]),
            _small([num, 1, size_px, size_px]),
            torch.ones([]),
            _small([channels]),
        ],
    ),
}
"""The operations that have kernels, by name. Sizes and channels are those of ``--cfg=paper256``."""


def measure_operation(setup: Setup, name: str, dtype: str, memory_format: str) -> dict[str, dict[str, float]]:
    """Time an operation and its gradients, and compare them with float64.

    Returns:
        For 'forward' and 'backward': seconds; GB/s of the bytes that its kernels have to read and write; their number;
        and the largest error, relative to the largest value of its tensor.
    """
    operation = OPERATIONS[name]
    num, channels, size_px = (2, 4, 16) if setup.is_quick else (16, 64, operation.size_px)

    def run_on(device: torch.device, num: int) -> _Run:
        x = torch.randn([num, channels, size_px, size_px])
        x += x.sign()  # away from the kink of the activation, where rounding decides on the slope
        others = [other.to(device) for other in operation.others(num, channels, size_px)]
        return _Run(operation, [x.to(device, DTYPES[dtype], memory_format=FORMATS[memory_format]), *others])

    errors = _errors(run_on(setup.device, NUM_COMPARED))
    run, meter, counted = run_on(setup.device, num), Meter(), run_on(META, num)
    figures = {}
    for direction in ("forward", "backward"):
        seconds = seconds_per_call(run.work(direction), setup.device, setup.repeats)
        with meter.during(direction):
            counted.work(direction)()
        calls = [call for call in meter.calls if call.phase == direction]
        touched_bytes = sum(call.read_bytes + call.written_bytes for call in calls)
        figures[direction] = {
            "sec": seconds,
            "gb_per_sec": touched_bytes / seconds / 1e9,
            "launches": sum(call.launches for call in calls),
            "error": errors[direction],
        }
    return figures


class _Run:
    """An operation with its inputs on a device."""

    def __init__(self, operation: Operation, inputs: list[Tensor]) -> None:
        self.operation = operation
        self.inputs = [each.detach() for each in inputs]
        self._taps = upfirdn2d.setup_filter([1, 3, 3, 1]).to(inputs[0].device)
        self._wanted = [self.inputs[0], *(each for each in self.inputs[1:] if each.ndim <= 2)]
        for each in self._wanted:
            each.requires_grad_()
        self.result = self.forward()
        self.grad = torch.randn_like(self.result)

    def forward(self) -> Tensor:
        return self.operation.call(self.inputs[0], self._taps, *self.inputs[1:])

    def backward(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.result, self._wanted, self.grad, retain_graph=True)

    def work(self, direction: str) -> Callable[[], Any]:
        return self.forward if direction == "forward" else self.backward


def _errors(run: _Run) -> dict[str, float]:
    """Compare with the same inputs in float64."""
    exact = _Run(run.operation, [each.double() for each in run.inputs])
    exact.grad = run.grad.double()

    def error(results: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        pairs = [(result.detach(), right.detach()) for result, right in zip(results, expected, strict=True)]
        return max(float((result - right).abs().max() / right.abs().max()) for result, right in pairs)

    return {"forward": error([run.result], [exact.result]), "backward": error(run.backward(), exact.backward())}
