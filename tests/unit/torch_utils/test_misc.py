import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from torch_utils import misc


class Scaled(nn.Module):
    def __init__(self, size, value=0.0, dtype=torch.float32):
        super().__init__()
        self.weight = nn.Parameter(torch.full([size, 2], value, dtype=dtype))
        self.register_buffer("mean", torch.full([2], value, dtype=dtype))

    def forward(self, x):
        return x @ self.weight.t()


# constant


def test_a_constant_is_made_once_per_value_and_kind():
    a = misc.constant([1, 2])
    assert a.dtype == torch.float32
    assert a.tolist() == [1, 2]
    assert misc.constant(np.array([1, 2])) is misc.constant([1, 2], device="cpu") is a
    others = [
        misc.constant([1, 3]),
        misc.constant([1, 2], dtype=torch.float64),
        misc.constant([1, 2], shape=[3, 2]),
        misc.constant([[1, 2]]),
        misc.constant([1.0, 2.0]),
    ]
    assert all(other is not a for other in others)
    assert others[2].tolist() == [[1, 2]] * 3


def test_a_constant_keeps_its_memory_format():
    shape = [2, 3, 4, 5]
    assert misc.constant(1, shape=shape).is_contiguous()
    assert misc.constant(1, shape=shape, memory_format=torch.channels_last).is_contiguous(
        memory_format=torch.channels_last
    )


def test_a_constant_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        value = misc.constant([0.125, 7])
    x = torch.ones(2, requires_grad=True)
    (x * value).sum().backward()
    assert x.grad.tolist() == [0.125, 7]


def test_a_constant_can_be_compiled():
    """In one graph: without a break, which ``fullgraph`` forbids."""

    def scale(x):
        array = np.array([[1, 2], [3, 4]])
        return x * misc.constant([0.5, 3]) + misc.constant(array, dtype=x.dtype) + misc.constant(7, shape=[2, 2])

    x = torch.randn(2, 2)
    assert torch.equal(torch.compile(scale, backend="eager", fullgraph=True)(x), scale(x))


# checks


def test_assert_shape_accepts():
    misc.assert_shape(torch.zeros(2, 3), [2, 3])
    misc.assert_shape(torch.zeros(2, 3), (None, 3))
    misc.assert_shape(torch.zeros([]), [])


@pytest.mark.parametrize("ref_shape", [[2, 4], [2], [2, 3, 1], [None, 4]])
def test_assert_shape_names_both_shapes(ref_shape):
    expected = str(ref_shape).replace("None", "any")
    with pytest.raises(ValueError, match=re.escape(f"got [2, 3], expected {expected}")):
        misc.assert_shape(torch.zeros(2, 3), ref_shape)


def test_symbolic_assert():
    misc.symbolic_assert(torch.tensor(True), "fine")
    misc.symbolic_assert(True, "fine")
    with pytest.raises(AssertionError, match="not fine"):
        misc.symbolic_assert(torch.tensor(False), "not fine")


def test_nan_to_num():
    assert misc.nan_to_num(torch.tensor([np.nan, np.inf]), nan=0, posinf=5).tolist() == [0, 5]


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_tracer_warnings_are_suppressed_inside_only():
    def quiet(x):
        misc.assert_shape(x, [2, None])
        with misc.suppress_tracer_warnings():
            return x * int(x.sum())

    torch.jit.trace(quiet, torch.ones(2, 3), check_trace=False)
    with pytest.warns(torch.jit.TracerWarning):
        torch.jit.trace(lambda x: x * int(x.sum()), torch.ones(2, 3), check_trace=False)


def test_other_warnings_pass_through_the_suppression():
    with pytest.warns(UserWarning, match="heard"), misc.suppress_tracer_warnings():
        warnings.warn("heard", stacklevel=1)


def test_helpers_of_networks_compile_without_a_break():
    @misc.profiled_function
    def double(x):
        misc.assert_shape(x, [None, 3])
        with misc.suppress_tracer_warnings():
            return x * 2

    compiled = torch.compile(double, backend="eager", fullgraph=True)
    assert compiled(torch.ones(2, 3)).tolist() == [[2] * 3] * 2


def test_profiled_function_shows_up_under_its_name_only_when_profiled():
    @misc.profiled_function
    def named_in_profile(x, y=1):
        """Words."""
        return x + y

    assert named_in_profile.__doc__ == "Words."
    assert named_in_profile(1, y=2) == 3
    with torch.autograd.profiler.profile() as profile:
        named_in_profile(1)
    assert [event.name for event in profile.function_events] == ["named_in_profile"]


# copying


def test_params_and_buffers():
    assert [name for name, _ in misc.named_params_and_buffers(Scaled(1))] == ["weight", "mean"]
    assert [tensor.shape for tensor in misc.params_and_buffers(Scaled(1))] == [(1, 2), (2,)]


def test_copy_keeps_dtype_gradients_and_what_the_source_lacks():
    src, dst = Scaled(1, 2.0), Scaled(1, 1.0, dtype=torch.float64)
    dst.weight.requires_grad_(False)
    dst.register_buffer("more", torch.ones(1))
    misc.copy_params_and_buffers(src, dst)
    assert dst.weight.tolist() == [[2, 2]]
    assert dst.mean.tolist() == [2, 2]
    assert dst.more.tolist() == [1]
    assert dst.weight.dtype == torch.float64
    assert not dst.weight.requires_grad
    assert src.weight.requires_grad
    with pytest.raises(ValueError, match="no tensor 'more'"):
        misc.copy_params_and_buffers(src, dst, require_all=True)


def test_copy_of_another_architecture_names_the_tensor_and_copies_nothing():
    src, dst = Scaled(3, 2.0), Scaled(3, 1.0)
    dst.mean = torch.ones(5)
    with pytest.raises(ValueError, match=r"'mean' is \[2\] there and \[5\] here.*number of classes"):
        misc.copy_params_and_buffers(src, dst)
    assert dst.weight.unique().tolist() == [1]


# one process (several: test_distributed)


def test_ddp_helpers_accept_any_module_in_one_process():
    module = Scaled(1)
    with misc.ddp_sync(module, sync=False):
        module(torch.ones(1, 2)).sum().backward()
    assert module.weight.grad is not None
    misc.check_ddp_consistency(module)
