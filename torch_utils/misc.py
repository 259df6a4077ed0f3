"""What networks and the training loop share: constants, checks, copying of tensors, consistency of processes."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from torch_utils import distributed
from torch_utils.module_summary import print_module_summary
from torch_utils.sampler import InfiniteSampler

__all__ = [
    "InfiniteSampler",
    "assert_shape",
    "check_ddp_consistency",
    "constant",
    "copy_params_and_buffers",
    "ddp_sync",
    "named_params_and_buffers",
    "nan_to_num",
    "params_and_buffers",
    "print_module_summary",
    "profiled_function",
    "suppress_tracer_warnings",
    "symbolic_assert",
]

P = ParamSpec("P")
R = TypeVar("R")


def constant(
    value: Any,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """Return ``value`` as a tensor that is made once and then shared, so that the device need not wait for a copy.

    Args:
        value: Number, nested list or array, the same in every call: each new value is kept forever.
        shape: Broadcast to this shape. Default: the shape of ``value``.
        dtype: Default: torch's default floating-point type, for integers too.
        device: Default: the CPU.
        memory_format: Default: contiguous.

    Returns:
        A shared tensor; never change it in place.
    """
    kind = (
        None if shape is None else tuple(shape),
        dtype or torch.get_default_dtype(),
        torch.device(device or "cpu"),
        memory_format or torch.contiguous_format,
    )
    if torch.compiler.is_compiling():  # a compiler makes constants of its own, and cannot look into a cache
        return _make_constant(value, *kind)
    array = np.asarray(value)
    return _shared_constant(array.tobytes(), array.dtype.str, array.shape, kind)


_Kind = tuple[tuple[int, ...] | None, torch.dtype, torch.device, torch.memory_format]


@functools.cache
def _shared_constant(data: bytes, data_dtype: str, data_shape: tuple[int, ...], kind: _Kind) -> torch.Tensor:
    array = np.frombuffer(data, data_dtype).reshape(data_shape).copy()
    with torch.inference_mode(False):  # or the shared tensor could not take part in training later
        return _make_constant(array, *kind)


def _make_constant(
    value: Any,
    shape: tuple[int, ...] | None,
    dtype: torch.dtype,
    device: torch.device,
    memory_format: torch.memory_format,
) -> torch.Tensor:
    tensor = torch.as_tensor(value, dtype=dtype, device=device)
    return tensor.broadcast_to(tensor.shape if shape is None else shape).clone(memory_format=memory_format)


nan_to_num = torch.nan_to_num


def symbolic_assert(condition: Any, message: str) -> None:
    """Check a condition that may be a tensor, also while the function is being traced."""
    torch._assert(condition, message)


@contextlib.contextmanager
def suppress_tracer_warnings() -> Iterator[None]:
    """Keep ``torch.jit.trace`` quiet about Python values that depend on shapes; costs nothing otherwise."""
    if not torch.jit.is_tracing():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=torch.jit.TracerWarning)
        yield


def assert_shape(tensor: torch.Tensor, ref_shape: Sequence[int | None]) -> None:
    """Check the shape of a tensor; None in ``ref_shape`` allows any size.

    Raises:
        ValueError: The shape differs.
    """
    with suppress_tracer_warnings():
        if tensor.ndim == len(ref_shape) and all(
            ref_size is None or size == ref_size for size, ref_size in zip(tensor.shape, ref_shape, strict=True)
        ):
            return
    expected = ", ".join("any" if size is None else str(size) for size in ref_shape)
    raise ValueError(f"wrong shape: got {list(tensor.shape)}, expected [{expected}]")


def profiled_function(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that profilers show it under its name; almost free while nothing is profiled."""

    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or not torch.autograd._profiler_enabled():
            return fn(*args, **kwargs)
        with torch.autograd.profiler.record_function(fn.__name__):
            return fn(*args, **kwargs)

    return wrapper


def named_params_and_buffers(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """List the parameters and then the buffers of a module with their ``state_dict`` names."""
    return [*module.named_parameters(), *module.named_buffers()]


def params_and_buffers(module: torch.nn.Module) -> list[torch.Tensor]:
    """List the parameters and then the buffers of a module."""
    return [tensor for _, tensor in named_params_and_buffers(module)]


LIKELY_DIFFERENCES = (
    "the networks differ, most likely in resolution, colors (grey or RGB: dataset_tool.py --mode), channels (--cbase, "
    "--cmax), mapping depth (--cfg, --map-depth) or number of classes"
)
"""What to say about networks whose tensors have different shapes."""


def copy_params_and_buffers(
    src_module: torch.nn.Module, dst_module: torch.nn.Module, require_all: bool = False
) -> None:
    """Copy the values of all parameters and buffers that both modules have, by name.

    Args:
        src_module: Where the values come from.
        dst_module: Gets them; its dtypes, devices and ``requires_grad`` stay.
        require_all: Every tensor of ``dst_module`` must exist in ``src_module``.

    Raises:
        ValueError: A shape differs or a required tensor is missing. Then nothing has been copied.
    """
    src_tensors = dict(named_params_and_buffers(src_module))
    pairs = []
    for name, dst in named_params_and_buffers(dst_module):
        src = src_tensors.get(name)
        if src is None:
            if require_all:
                raise ValueError(f"cannot copy {type(src_module).__name__}: it has no tensor '{name}'")
            continue
        if src.shape != dst.shape:
            raise ValueError(
                f"cannot copy {type(src_module).__name__}: '{name}' is {list(src.shape)} there and {list(dst.shape)} "
                f"here; {LIKELY_DIFFERENCES}"
            )
        pairs.append((dst, src))
    with torch.no_grad():
        for dst, src in pairs:
            dst.copy_(src)


def ddp_sync(module: torch.nn.Module, sync: bool) -> contextlib.AbstractContextManager[None]:
    """Let backward passes inside average gradients over the processes only if ``sync``; for any module."""
    if isinstance(module, torch.nn.parallel.DistributedDataParallel) and not sync:
        return module.no_sync()
    return contextlib.nullcontext()


def check_ddp_consistency(module: torch.nn.Module, ignore_regex: str | None = None) -> None:
    """Check that all processes hold the same values; every process must call it and all fail together.

    Args:
        module: Its parameters and buffers are compared with those of rank 0, bit by bit; NaN equals NaN.
        ignore_regex: Tensors whose whole name ``<class>.<name>`` matches are not compared.

    Raises:
        RuntimeError: A tensor differs. The text names it, the rank, and whether it is NaN or drift.
    """
    if distributed.world_size() == 1:
        return
    title = type(module).__name__
    faults = []
    for name, tensor in named_params_and_buffers(module):
        full_name = f"{title}.{name}"
        if ignore_regex is None or not re.fullmatch(ignore_regex, full_name):
            fault = _difference_from_rank0(tensor.detach())
            if fault is not None:
                faults.append(f"'{full_name}' {fault}")
    for rank, found in enumerate(distributed.gather(faults)):
        if found:
            number = "1 tensor differs" if len(found) == 1 else f"{len(found)} tensors differ"
            raise RuntimeError(f"the processes disagree: on rank {rank} {found[0]} ({number})")


def _difference_from_rank0(tensor: torch.Tensor) -> str | None:
    theirs = tensor.clone(memory_format=torch.contiguous_format)
    distributed.broadcast_([theirs])
    if torch.equal(tensor.nan_to_num(), theirs.nan_to_num()) and torch.equal(tensor.isnan(), theirs.isnan()):
        return None
    num_nan, num_nan_theirs = int(tensor.isnan().sum()), int(theirs.isnan().sum())
    if num_nan or num_nan_theirs:
        return f"has {num_nan} NaN where rank 0 has {num_nan_theirs}"
    return f"drifts from rank 0 by up to {float((tensor.double() - theirs.double()).abs().max()):.3g}"
