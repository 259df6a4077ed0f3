"""Operations that run as one Triton kernel on GPUs and as PyTorch code elsewhere.

Triton comes with PyTorch's CUDA builds, needs no compiler toolchain, and is imported when a kernel is first needed.
Where it is missing or does not work, operations fall back to PyTorch with one line of warning.

A kernel is a plain function over ``tl``, which `compiled` binds to ``triton.language``::

    tl: Any = None  # bound by kernels.compiled

    def _double_kernel(x, y, size, BLOCK: tl.constexpr): ...

    @kernels.operation(reference=lambda x: x * 2, fake=torch.empty_like)
    def _double(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty_like(x)
        kernels.compiled(_double_kernel)[(triton_blocks,)](x, y, x.numel(), BLOCK=1024)
        return y

    _double(x, kernel=kernels.are_wanted(impl, x))
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch

IMPLS = ("auto", "triton", "ref", "cuda")
"""'auto' takes kernels on GPUs, 'cuda' is StyleGAN2-ADA's name for the same, 'ref' is the definition in PyTorch."""

NAMESPACE = "_".join(["mscond", *__name__.split(".")[:-3]])
"""Kernels are operators of this name under ``torch.ops`` for compilers, exporters and counters.

It is ``mscond``, but another one where this file is imported below a package (``mscond.modules``): PyTorch frees
operators that are defined again, and whoever holds them crashes.
"""

_broken: set[str] = set()
"""Types of devices on which a kernel has failed."""


def check_impl(function: str, impl: str) -> None:
    """Raise ValueError if ``impl`` is not one of `IMPLS`; ``function`` stands in the message."""
    if impl not in IMPLS:
        raise ValueError(f"{function}: impl must be one of {', '.join(IMPLS)}, got {impl!r}")


def are_wanted(impl: str, tensor: torch.Tensor) -> bool:
    """Return whether an operation on ``tensor`` shall run as a kernel; warn if it should and cannot.

    The meta device counts as a GPU: what is traced there is what a GPU would do. On a CPU, 'triton' works in Triton's
    interpreter, which the environment variable ``TRITON_INTERPRET=1`` selects, and where errors are not hidden.
    """
    device = tensor.device.type
    if impl == "ref":
        return False
    if impl != "triton" and (device not in ("cuda", "meta") or tensor.dtype == torch.float64):
        return False  # kernels take factors as float32: enough to check derivatives in float64, not to compute in it
    if torch.jit.is_tracing():
        return False  # the tracer would see nothing of a kernel
    if device == "meta":
        return True
    if device in _broken:
        return False
    if importlib.util.find_spec("triton") is None:
        _fall_back(device, "Triton is not installed")
    elif device == "cpu" and not _interpreted():
        _fall_back(device, "Triton has no CPU backend, only its interpreter (TRITON_INTERPRET=1)")
    return device not in _broken


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _fall_back(device: str, reason: str) -> None:
    _broken.add(device)
    warnings.warn(f"Operations on {device} run as PyTorch code instead of Triton kernels: {reason}", stacklevel=3)


@functools.cache
def compiled(kernel: Callable[..., Any]) -> Any:
    """Return ``kernel`` as a Triton function, to be called as ``compiled(kernel)[grid](...)``.

    The functions of the same module that it calls become Triton functions, too.
    """
    triton = importlib.import_module("triton")
    module = sys.modules[kernel.__module__]
    module.tl = importlib.import_module("triton.language")  # type: ignore[attr-defined]
    for name in kernel.__code__.co_names:
        called = getattr(module, name, None)
        if isinstance(called, types.FunctionType):
            setattr(module, name, compiled(called))
    return triton.jit(kernel)


def operation(
    *, reference: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an operation of a function that launches a kernel.

    The result takes the same arguments and ``kernel``, from `are_wanted`. It has no derivative: it serves within
    ``torch.autograd.Function``. A compiler, an exporter and the meta device see it as one operator of `NAMESPACE`;
    otherwise the function is called directly, which takes half the time on the CPU side (73 and 30 us a call).

    Args:
        reference: Computes the same by PyTorch.
        fake: Returns empty tensors like the results, for tensors without data.
    """

    def decorate(launch: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            tensor = next(arg for arg in args if isinstance(arg, torch.Tensor))
            device = tensor.device.type
            if device in _broken:
                return reference(*args)
            try:
                with torch.cuda.device_of(tensor):  # Triton launches on the current device
                    return launch(*args)
            except Exception as error:  # compilers fail in many ways, and training must go on
                if isinstance(error, torch.OutOfMemoryError) or _interpreted():
                    raise
                result = reference(*args)  # fails, too, if the arguments are at fault
                _fall_back(device, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
                return result

        operator = torch.library.custom_op(
            f"{NAMESPACE}::{launch.__name__.strip('_')}",
            run,
            mutates_args=(),
            schema=torch.library.infer_schema(launch, mutates_args=()),
        )
        operator.register_fake(fake)

        @functools.wraps(launch)
        def call(*args: Any, kernel: bool) -> Any:
            if not kernel:
                return reference(*args)
            on_meta = any(arg.is_meta for arg in args if isinstance(arg, torch.Tensor))
            return operator(*args) if on_meta or torch.compiler.is_compiling() else run(*args)

        return call

    return decorate
