"""What is counted: shapes times sizes of elements, written by hand for each kind of operator."""

from __future__ import annotations

import pytest
import torch

from benchmarks.meter import META, Meter, multi_tensor_launches, touched_bytes
from torch_utils.ops import bias_act, modulation


def on_device(*shape, dtype=torch.float32, **kwargs):
    return torch.empty(shape, dtype=dtype, device=META, **kwargs)


def calls_of(work):
    meter = Meter()
    with meter.during("phase"):
        work()
    assert not meter.waits
    return meter.calls


def waits_of(work):
    meter = Meter()
    with meter.during("phase"):
        work()
    return [wait.operator for wait in meter.waits]


def figures(call):
    return call.operator, call.launches, call.read_bytes, call.written_bytes, call.flops


X, Y, BIAS = on_device(2, 3, 8, 8), on_device(2, 3, 8, 8), on_device(3, 1, 1)
HALF = on_device(2, 3, 8, 8, dtype=torch.float16)
X_BYTES, BIAS_BYTES = 4 * 2 * 3 * 8 * 8, 4 * 3


@pytest.mark.parametrize(
    ("work", "operator", "read_bytes", "written_bytes"),
    [
        (lambda: X + Y, "aten::add", 2 * X_BYTES, X_BYTES),
        (lambda: X + X, "aten::add", X_BYTES, X_BYTES),
        (lambda: X + BIAS, "aten::add", X_BYTES + BIAS_BYTES, X_BYTES),
        (lambda: X + BIAS.expand(2, 3, 8, 8), "aten::add", X_BYTES + BIAS_BYTES, X_BYTES),
        (lambda: X.add_(Y), "aten::add_", 2 * X_BYTES, X_BYTES),
        (lambda: X.half(), "aten::_to_copy", X_BYTES, X_BYTES // 2),
        (lambda: HALF * 2, "aten::mul", X_BYTES // 2, X_BYTES // 2),
        (lambda: X[:, :1].contiguous(), "aten::clone", X_BYTES // 3, X_BYTES // 3),
        (lambda: X.zero_(), "aten::zero_", 0, X_BYTES),
        (lambda: X.copy_(Y), "aten::copy_", X_BYTES, X_BYTES),
        (lambda: torch.zeros_like(X), "aten::zeros_like", 0, X_BYTES),
        (lambda: torch.randn([2, 3, 8, 8], device=META), "aten::randn", 0, X_BYTES),
        (lambda: X.sum(), "aten::sum", X_BYTES, 4),
        (lambda: torch.cat([X, Y]), "aten::cat", 2 * X_BYTES, 2 * X_BYTES),
    ],
)
def test_an_operator_is_one_launch_that_touches_each_tensor_once(work, operator, read_bytes, written_bytes):
    (call,) = calls_of(work)
    assert figures(call) == (operator, 1, read_bytes, written_bytes, 0)


@pytest.mark.parametrize(
    "work",
    [
        lambda: X.view(6, 64).t()[None, 1:].expand(5, -1, -1).detach(),
        lambda: X.split([1, 2], dim=1)[1].unbind(1)[0].permute(2, 1, 0),
        lambda: (torch.empty_like(X), X.new_empty([3]), torch.empty([3], device=META)),
        lambda: torch.ones([3]) + torch.rand([3]).sum().item(),
    ],
    ids=["views", "lists of views", "allocations", "the host's own work"],
)
def test_free(work):
    assert calls_of(work) == []


def test_convolution_and_its_gradients_are_a_launch_each():
    weight = on_device(5, 3, 3, 3)
    y_bytes, weight_bytes, flops = 4 * 2 * 5 * 8 * 8, 4 * 5 * 3 * 9, 2 * (2 * 5 * 8 * 8) * 3 * 9
    geometry = [1, 1], [1, 1], [1, 1], False, [0, 0], 1

    (call,) = calls_of(lambda: torch.convolution(X, weight, None, *geometry))
    assert figures(call) == ("aten::convolution", 1, X_BYTES + weight_bytes, y_bytes, flops)

    def gradients(mask):
        grad = on_device(2, 5, 8, 8)
        (call,) = calls_of(lambda: torch.ops.aten.convolution_backward(grad, X, weight, [5], *geometry, mask))
        return figures(call)[1:]

    of_x, of_weight = y_bytes + weight_bytes, y_bytes + X_BYTES
    assert gradients([True, False, False]) == (1, of_x, X_BYTES, flops)
    assert gradients([False, True, False]) == (1, of_weight, weight_bytes, flops)
    assert gradients([True, True, True]) == (3, of_x + of_weight + y_bytes, X_BYTES + weight_bytes + 4 * 5, 2 * flops)


def test_results_of_convolutions_are_channels_last_if_an_argument_is():
    def is_channels_last(x_format, weight_format):
        x = X.contiguous(memory_format=x_format)
        weight = on_device(5, 3, 3, 3).contiguous(memory_format=weight_format)
        with Meter().during("phase"):
            y = torch.nn.functional.conv2d(x, weight)
        return y.is_contiguous(memory_format=torch.channels_last)

    contiguous, channels_last = torch.contiguous_format, torch.channels_last
    assert not is_channels_last(contiguous, contiguous)
    assert is_channels_last(channels_last, contiguous)
    assert is_channels_last(contiguous, channels_last)


def test_depthwise_convolutions_are_told_from_others():
    (call,) = calls_of(lambda: torch.nn.functional.conv2d(X, on_device(3, 1, 4, 4), groups=3))
    assert call.operator == "aten::convolution (grouped)"
    assert call.flops == 2 * (2 * 3 * 5 * 5) * 4 * 4


def test_matrix_products_have_flops():
    (call,) = calls_of(lambda: on_device(7, 5) @ on_device(5, 2))
    assert figures(call) == ("aten::mm", 1, 4 * (7 * 5 + 5 * 2), 4 * 7 * 2, 2 * 7 * 5 * 2)


def test_a_kernel_of_ours_is_one_launch_of_its_arguments_and_results():
    (call,) = calls_of(lambda: modulation.modulate(HALF, on_device(2, 3)))
    assert call.operator.startswith("mscond::")
    assert figures(call)[1:] == (1, X_BYTES // 2 + 4 * 2 * 3, X_BYTES // 2, 0)


@pytest.mark.parametrize(("dtype", "launches"), [(torch.float32, 2), (torch.float16, 3)])
def test_the_gradient_of_a_bias_is_added_up_and_rounded(dtype, launches):
    def gradient_launches(has_learned_bias):
        x = on_device(2, 3, 8, 8, dtype=dtype, requires_grad=True)
        y = bias_act.bias_act(x, on_device(3, dtype=dtype, requires_grad=has_learned_bias), act="lrelu")
        calls = calls_of(lambda: y.backward(torch.empty_like(y)))
        return [call.launches for call in calls if call.operator == "mscond::bias_act_grad"]

    assert gradient_launches(has_learned_bias=False) == [1]
    assert gradient_launches(has_learned_bias=True) == [launches]


def test_calls_carry_phase_dtype_and_line():
    (call,) = calls_of(lambda: modulation.modulate(HALF, on_device(2, 3)))
    assert (call.phase, call.dtype) == ("phase", "float16")
    assert call.source.startswith("torch_utils/ops/modulation.py:")


def test_memory_is_not_counted_twice():
    windows = on_device(10).unfold(0, 3, 1)  # 8 windows of 3 share 10 numbers
    assert touched_bytes([windows]) == 4 * 10
    assert touched_bytes([on_device(100)[:1].expand(50)]) == 4
    assert touched_bytes([X, X, BIAS]) == X_BYTES + BIAS_BYTES
    assert touched_bytes([torch.ones([3])]) == 0


@pytest.mark.parametrize(
    ("sizes", "num_lists", "launches"),
    [
        ([], 1, 0),
        ([1], 1, 1),
        ([1] * 110, 1, 1),
        ([1] * 111, 1, 2),
        ([1] * 36, 4, 1),
        ([1] * 73, 4, 3),
        ([320 * 65536], 1, 1),
        ([320 * 65536 + 1], 1, 2),
        ([319 * 65536, 1, 1], 1, 2),
        ([640 * 65536 + 1], 4, 3),
        ([300 * 65536] * 2, 4, 2),
        ([320 * 65536 + 1] + [1] * 36, 4, 3),
    ],
)
def test_launches_on_lists(sizes, num_lists, launches):
    assert multi_tensor_launches(sizes, num_lists) == launches


def test_norms_of_a_list():
    (call,) = calls_of(lambda: torch._foreach_norm([BIAS] * 111))
    assert (call.launches, call.read_bytes) == (2, BIAS_BYTES)
    assert call.written_bytes == 111 * 4


def test_fused_adam_passes_seven_times_over_parameters_with_gradients():
    parameters = [torch.nn.Parameter(on_device(70000)) for _ in range(3)]
    for parameter in parameters[:2]:
        parameter.grad = on_device(70000)
    meter = Meter()
    meter.count_fused_adam(torch.optim.Adam(parameters))
    (call,) = meter.calls
    parameter_bytes = 2 * 4 * 70000
    assert figures(call) == ("fused_adam", 2, 4 * parameter_bytes, 3 * parameter_bytes, 0)


@pytest.mark.parametrize(
    ("work", "operators"),
    [
        (lambda: X.sum().item(), ["aten::_local_scalar_dense"]),
        (lambda: bool(X.isfinite().all()), ["aten::_local_scalar_dense"]),
        (lambda: X.sum().tolist(), ["aten::_to_copy"]),
        (lambda: X.cpu(), ["aten::_to_copy"]),
        (lambda: torch.ones([3]).to(META), ["aten::_to_copy"]),
        (lambda: BIAS.copy_(torch.ones([3, 1, 1])), ["aten::copy_"]),
        (lambda: torch.tensor([1.0, 2.0], device=META), ["tensor"]),
        (lambda: torch.as_tensor([1.0, 2.0], device=META), ["as_tensor"]),
        (lambda: X.nonzero(), ["aten::nonzero"]),
        (lambda: X[X > 0], ["aten::index"]),
    ],
)
def test_the_host_waits(work, operators):
    assert waits_of(work) == operators


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.ones([3]).to(META, non_blocking=True),
        lambda: BIAS.copy_(torch.ones([3, 1, 1]), non_blocking=True),
        lambda: BIAS.copy_(BIAS),
        lambda: BIAS + torch.ones([]),
        lambda: torch.full([3], 2.0, device=META),
        lambda: X[:, on_device(2, dtype=torch.int64)],
        lambda: (torch.ones([3]).sum().item(), torch.ones([3]).nonzero(), torch.tensor([1.0])),
    ],
)
def test_the_host_goes_on(work):
    assert waits_of(work) == []


def test_what_is_read_is_one():
    with Meter().during("phase"):
        assert bool(X.isfinite().all())
        assert on_device(2, dtype=torch.int64).tolist() == [1, 1]
        assert X.mean().item() == 1.0
