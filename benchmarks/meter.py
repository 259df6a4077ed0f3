"""Counts what a GPU would do: kernel launches, bytes of memory, arithmetic, and waits of the host.

`Meter` watches operators on the meta device, whose tensors have shapes but no data. Its rules:

- An operator is one launch; views and allocations are none. The gradients of a convolution are a launch each, and an
  operator on a list of tensors (``_foreach_...``) is as many as PyTorch's chunks need. A few operators take two on a
  GPU (``constant_pad_nd`` fills and copies, for example), so the count is a lower bound.
- An operator reads each argument and writes each result once. Elements that a broadcast repeats are read once. What
  convolutions do inside (workspaces, changes of layout) is not known here. Their results are channels-last if an
  argument is, as cuDNN's are.
- A kernel of `torch_utils.ops` is one operator of the namespace ``mscond``.
- Reading a value on the host, copying from or to pageable memory, and shapes that depend on values make the host wait.
  They are noted, and answered with ones: code that asks whether all is well hears yes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as fx_config
from torch._prims_common import suggest_memory_format
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.sources import Sources
from training.run.rehearsal import META, read_as_ones

FREE = {
    *("_unsafe_view", "sym_size", "sym_stride", "sym_numel", "is_same_size"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}
"""Operators without a kernel, besides views."""

FACTORIES = {
    *("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "rand_like", "randn_like"),
    *("zero_", "fill_", "normal_", "uniform_", "bernoulli_"),
}
"""Operators that take a tensor for its shape, or to overwrite it, and do not read it."""

GROUPS_ARGUMENT = {"aten::convolution": 8, "aten::convolution_backward": 9}
"""Which argument is the number of groups; it distinguishes depthwise filters from other convolutions."""

BIAS_GRADIENTS = ("mscond::bias_act_grad", "mscond::bias_act_grad_grad")
"""Kernels whose last result is the gradient of a bias, or empty: PyTorch adds it up, and rounds it if it is half."""

MAX_TENSORS = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""Tensors that one launch on lists can take, by the number of lists; like the next two from MultiTensorApply.cuh."""
MAX_CHUNKS = 320
CHUNK_SIZE = 65536


@dataclass(frozen=True)
class Call:
    """One operator on the device."""

    phase: str
    operator: str
    """With its namespace, such as ``aten::add``."""
    launches: int
    read_bytes: int
    written_bytes: int
    flops: int
    """Of convolutions and matrix products; 0 otherwise."""
    dtype: str
    source: str
    """The line of this project that it comes from."""


@dataclass(frozen=True)
class Wait:
    """The host waits for the device."""

    phase: str
    operator: str
    source: str


class Meter(TorchDispatchMode):
    """Counts operators on the meta device while active; ``phase`` is recorded with each."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.calls: list[Call] = []
        self.waits: list[Wait] = []
        self._sources = Sources()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what happens inside as part of a phase."""
        self.phase = phase
        assume_all = fx_config.patch(meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
        with assume_all, _ConstantsWatch(self), self:
            yield

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to be hidden from the compiler would import all of it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and count it if it concerns the meta device."""
        kwargs = kwargs or {}
        source = self._sources.current()
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if makes_host_wait(func, args, kwargs):
            self.waits.append(Wait(self.phase, func._schema.name, source))
            if (answer := read_as_ones(func, args, kwargs)) is not None:
                return answer
        result = func(*args, **kwargs)
        if func is torch.ops.aten.convolution.default:
            result = result.contiguous(memory_format=_convolution_format(*args[:2]))
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        is_free = func.is_view or func._schema.name.removeprefix("aten::") in FREE
        if not is_free and any(tensor.device == META for tensor in (*tensors, *results)):
            self._count(func, args, kwargs, tensors, result, source)
        return result

    def _count(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        tensors: Sequence[torch.Tensor],
        result: Any,
        source: str,
    ) -> None:
        operator = func._schema.name
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if operator == "aten::convolution_backward":
            launches, read_bytes = _convolution_gradients(args)
        elif operator.startswith("aten::_foreach_"):
            launches = multi_tensor_launches([tensor.numel() for tensor in args[0]], num_lists=1)
            read_bytes = touched_bytes(tensors)
        else:
            launches = _launches(operator, results)
            read_bytes = touched_bytes(_read(operator.removeprefix("aten::"), tensors))
        if operator in GROUPS_ARGUMENT and args[GROUPS_ARGUMENT[operator]] > 1:
            operator += " (grouped)"
        flop_formula = flop_registry.get(func._overloadpacket)
        typed = next((t for t in (*results, *tensors) if t.device == META), None)
        self.calls.append(
            Call(
                self.phase,
                operator,
                launches,
                read_bytes,
                touched_bytes(results),
                flop_formula(*args, **kwargs, out_val=result) if flop_formula else 0,
                str(typed.dtype).removeprefix("torch.") if typed is not None else "",
                source,
            )
        )

    def count_fused_adam(self, optimizer: torch.optim.Optimizer) -> None:
        """Count a step of ``torch.optim.Adam(fused=True)`` on a GPU, where one pass of each chunk does everything.

        It reads parameters, gradients and two moments, and writes all but the gradients: 7 passes. The counters of
        steps are added to before, which is one more launch for up to 110 parameters.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        passes_bytes = touched_bytes(parameters)
        launches = multi_tensor_launches([p.numel() for p in parameters], num_lists=4)
        launches += multi_tensor_launches([1] * len(parameters), num_lists=1)
        self.calls.append(
            Call(self.phase, "fused_adam", launches, 4 * passes_bytes, 3 * passes_bytes, 0, "float32", "optimizer")
        )


class _ConstantsWatch(TorchFunctionMode):
    """Notes tensors that are made of Python numbers on the device, which happens below any operator."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor) and result.device == META:
            self._meter.waits.append(Wait(self._meter.phase, func.__name__, self._meter._sources.current()))
        return result


def makes_host_wait(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether the host waits for the device in an operator."""
    operator = func._schema.name.removeprefix("aten::")
    if operator in ("_local_scalar_dense", "nonzero"):
        return bool(args[0].device == META)
    if operator in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return any(index is not None and index.dtype == torch.bool and index.device == META for index in args[1])
    if operator == "_to_copy":
        return kwargs.get("device", args[0].device) != args[0].device and not kwargs.get("non_blocking", False)
    if operator == "copy_":
        is_blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        return args[0].device != args[1].device and is_blocking
    return False


def _convolution_format(input: torch.Tensor, weight: torch.Tensor) -> torch.memory_format:
    """Return the format of a convolution's result on a GPU; the meta device says contiguous whatever comes in."""
    formats = [suggest_memory_format(each) for each in (input, weight)]
    return torch.channels_last if torch.channels_last in formats else torch.contiguous_format


def _launches(operator: str, results: Sequence[torch.Tensor]) -> int:
    """Return the launches of an operator on single tensors."""
    if operator in BIAS_GRADIENTS and results[-1].numel() > 0:
        return 2 if results[-1].dtype == torch.float32 else 3
    return 1


def _read(operator: str, tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Return the tensors that an operator reads."""
    if operator in FACTORIES:
        return []
    return tensors[1:] if operator == "copy_" else tensors


def _convolution_gradients(args: Sequence[Any]) -> tuple[int, int]:
    """Return the launches and the bytes read of ``convolution_backward``: a kernel for each gradient asked for."""
    grad_output, input, weight = args[:3]
    operands = [(grad_output, weight), (grad_output, input), (grad_output,)]
    read = [tensors for tensors, is_wanted in zip(operands, args[10], strict=True) if is_wanted]
    return len(read), sum(touched_bytes(tensors) for tensors in read)


def touched_bytes(tensors: Sequence[torch.Tensor]) -> int:
    """Return the bytes of memory behind tensors on the meta device: what is broadcast or listed twice counts once."""
    distinct = {id(tensor): tensor for tensor in tensors if tensor.device == META}
    return sum(_tensor_bytes(tensor) for tensor in distinct.values())


def _tensor_bytes(tensor: torch.Tensor) -> int:
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0 or size == 0]
    return min(math.prod(sizes) * tensor.element_size(), tensor.untyped_storage().nbytes())


def multi_tensor_launches(sizes: Sequence[int], num_lists: int) -> int:
    """Return how many kernels PyTorch launches for an operator on ``num_lists`` lists of tensors of these sizes."""
    launches = tensors = chunks = 0
    for size in sizes:
        tensors += 1
        remaining = math.ceil(size / CHUNK_SIZE)
        while remaining > 0:
            taken = min(remaining, MAX_CHUNKS - chunks)
            remaining -= taken
            chunks += taken
            if chunks == MAX_CHUNKS or (remaining == 0 and tensors == MAX_TENSORS[num_lists]):
                launches += 1
                chunks, tensors = 0, int(remaining > 0)
    return launches + (chunks > 0)
