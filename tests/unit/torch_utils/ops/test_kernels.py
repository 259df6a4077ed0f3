"""An operation of two kernels: one that doubles, with a helper, and one that fails."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from typing import Any, no_type_check

import pytest
import torch

from torch_utils.ops import kernels

tl: Any = None  # bound by kernels.compiled


@no_type_check
def _double_kernel(x, y, size, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at, _twice(tl.load(x + at, at < size)), at < size)


@no_type_check
def _twice(x):
    return 2 * x


def _double_ref(x: torch.Tensor, fails: str) -> torch.Tensor:
    return x * 2


@kernels.operation(reference=_double_ref, fake=lambda x, fails: torch.empty_like(x))
def _double_for_tests(x: torch.Tensor, fails: str) -> torch.Tensor:
    launches.append(fails)
    if fails == "memory":
        raise torch.OutOfMemoryError("no memory")
    if fails:
        raise RuntimeError(fails)
    y = torch.empty_like(x)
    kernels.compiled(_double_kernel)[(1,)](x, y, x.numel(), BLOCK=8)
    return y


launches: list[str] = []


@pytest.fixture(autouse=True)
def _like_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_broken", set())
    launches.clear()


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are hidden, as nothing is interpreted."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def meta(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(3, device="meta", dtype=dtype)


def test_impl_is_checked() -> None:
    for impl in kernels.IMPLS:
        kernels.check_impl("act", impl)
    with pytest.raises(ValueError, match=r"^act: impl must be one of auto, triton, ref, cuda, got 'gpu'$"):
        kernels.check_impl("act", "gpu")


@pytest.mark.parametrize(
    ("impl", "on_cpu", "on_meta", "on_meta_in_float64"),
    [
        ("auto", False, True, False),
        ("cuda", False, True, False),
        ("triton", True, True, True),
        ("ref", False, False, False),
    ],
)
def test_where_kernels_are_wanted(impl: str, on_cpu: bool, on_meta: bool, on_meta_in_float64: bool) -> None:
    assert kernels.are_wanted(impl, torch.zeros(3)) == on_cpu
    assert kernels.are_wanted(impl, meta()) == on_meta
    assert kernels.are_wanted(impl, meta(torch.float64)) == on_meta_in_float64


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:DeprecationWarning")
def test_tracers_see_pytorch() -> None:
    wanted = []
    torch.jit.trace(lambda x: wanted.append(kernels.are_wanted("triton", x)) or x, torch.zeros(1), check_trace=False)
    assert wanted == [False]


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_without_triton_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="^Operations on cpu run as PyTorch code .*: Triton is not installed$"):
        assert not kernels.are_wanted("triton", torch.zeros(3))
    assert not kernels.are_wanted("triton", torch.zeros(3))


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_cpus_need_the_interpreter() -> None:
    with pytest.warns(UserWarning, match=r"no CPU backend, only its interpreter \(TRITON_INTERPRET=1\)$"):
        assert not kernels.are_wanted("triton", torch.zeros(3))
    assert not kernels.are_wanted("triton", torch.zeros(3))


def test_a_kernel_and_what_it_calls_run() -> None:
    assert _double_for_tests(torch.arange(3.0), "", kernel=True).tolist() == [0, 2, 4]
    assert launches == [""]
    assert kernels.compiled(_double_kernel) is kernels.compiled(_double_kernel)
    assert not inspect.isfunction(_twice), "a compiler cannot call it"


def test_without_a_kernel_the_reference_runs() -> None:
    assert _double_for_tests(torch.arange(3.0), "", kernel=False).tolist() == [0, 2, 4]
    assert launches == []


def test_the_meta_device_launches_nothing() -> None:
    y = _double_for_tests(meta(), "", kernel=True)
    assert y.is_meta
    assert y.shape == (3,)
    assert launches == []


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_a_failing_kernel_is_replaced_with_one_warning() -> None:
    message = r"^Operations on cpu run as PyTorch code instead of Triton kernels: RuntimeError: no compiler$"
    with pytest.warns(UserWarning, match=message):
        assert _double_for_tests(torch.arange(3.0), "no compiler\nin sight", kernel=True).tolist() == [0, 2, 4]
    assert _double_for_tests(torch.arange(3.0), "another failure", kernel=True).tolist() == [0, 2, 4]
    assert launches == ["no compiler\nin sight"]
    assert not kernels.are_wanted("triton", torch.zeros(3))


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_the_operator_of_a_failing_kernel_is_replaced() -> None:
    with pytest.warns(UserWarning, match="RuntimeError: no compiler$"):
        assert torch.ops.mscond.double_for_tests(torch.arange(3.0), "no compiler").tolist() == [0, 2, 4]


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_lack_of_memory_and_bad_arguments_do_not_end_kernels() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        _double_for_tests(torch.arange(3.0), "memory", kernel=True)
    with pytest.raises(TypeError):  # the reference's word
        _double_for_tests(torch.arange(3.0), "x", "too many", kernel=True)
    assert kernels._broken == set()


def test_errors_in_the_interpreter_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        _double_for_tests(torch.arange(3.0), "a bug", kernel=True)


@pytest.mark.slow
def test_triton_waits_until_it_is_needed() -> None:
    code = "import sys, torch_utils.ops.bias_act; print({'triton', 'torch._dynamo'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
