from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers import assert_close
from torch_utils import training_stats
from training.loss import Loss
from training.phases import NONFINITE_LIMIT, Phase, Round, Stopwatch, make_phases, remove_nonfinite

ADAM = {"class_name": "torch.optim.Adam", "lr": 0.002, "betas": [0.0, 0.99], "eps": 1e-8}
NAN, INF = float("nan"), float("inf")


class Recorder(Loss):
    """Notes how it was called; its gradient is that of ``gain * sum(real_img) * sum of parameters``."""

    def __init__(self, module: torch.nn.Module, grad: float = 1) -> None:
        self.module = module
        self.grad = grad
        self.calls: list[dict[str, Any]] = []

    def accumulate_gradients(self, **kwargs: Any) -> None:
        trainable = all(parameter.requires_grad for parameter in self.module.parameters())
        self.calls.append({**kwargs, "trainable": trainable})
        factor = self.grad * kwargs["gain"] * kwargs["real_img"].sum()
        (factor * sum(parameter.sum() for parameter in self.module.parameters())).backward()


def make_round(value: float) -> Round:
    return Round(*(torch.full([1], value + offset) for offset in (0.0, 0.1, 0.2, 0.3)))


def make_module() -> torch.nn.Module:
    return torch.nn.Linear(2, 1).requires_grad_(False)


@pytest.mark.parametrize("interval", [4, 16])
def test_lazy_regularization_scales_the_optimizer(interval: int) -> None:
    module = make_module()
    main, reg = make_phases("G", module, ADAM, interval)
    ratio = interval / (interval + 1)
    assert ([main.name, main.interval], [reg.name, reg.interval]) == (["Gmain", 1], ["Greg", interval])
    assert main.optimizer is reg.optimizer
    assert main.module is reg.module is module
    group = main.optimizer.param_groups[0]
    assert isinstance(main.optimizer, torch.optim.Adam)
    assert group["params"] == list(module.parameters())
    assert group["lr"] == pytest.approx(0.002 * ratio, rel=1e-12)
    assert group["betas"] == pytest.approx([0, 0.99**ratio], rel=1e-12)
    assert group["eps"] == 1e-8
    assert ADAM["lr"] == 0.002


def test_without_an_interval_one_phase_does_both() -> None:
    (phase,) = make_phases("D", make_module(), ADAM, None)
    assert (phase.name, phase.interval) == ("Dboth", 1)
    group = phase.optimizer.param_groups[0]
    assert (group["lr"], tuple(group["betas"])) == (0.002, (0, 0.99))


def test_a_phase_runs_all_rounds_and_steps_once() -> None:
    module = make_module()
    phase = Phase("Dreg", module, torch.optim.SGD(module.parameters(), lr=0.5), interval=16)
    loss, before = Recorder(module), [parameter.clone() for parameter in module.parameters()]
    rounds = [make_round(1.0), make_round(2.0), make_round(5.0)]
    for _ in range(2):
        loss.calls.clear()
        phase.run(loss, rounds)
        for call, inputs, sync in zip(loss.calls, rounds, [False, False, True], strict=True):
            expected = {"phase": "Dreg", "sync": sync, "gain": 16, "trainable": True}
            assert {name: call[name] for name in expected} == expected
            assert all(call[name] is getattr(inputs, name) for name in ("real_img", "real_c", "gen_z", "gen_c"))
        assert not any(parameter.requires_grad for parameter in module.parameters())
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert_close(parameter, old - 2 * 0.5 * 16 * (1 + 2 + 5))  # gradients of the first run are not left over


def test_nonfinite_gradients_are_counted_and_do_no_harm() -> None:
    module = make_module()
    (phase,) = make_phases("G", module, ADAM, None)
    collector = training_stats.Collector(regex="Health/.*")
    for grad, count in [(1, 0), (INF, 3), (NAN, 3)]:
        phase.run(Recorder(module, grad), [make_round(1.0)])
        collector.update()
        assert collector["Health/nonfinite_grads/Gboth"] == count
        assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_values_that_replace_nonfinite_ones() -> None:
    gradients = [torch.tensor([1.0, NAN, -2.0]), torch.tensor([[INF], [-INF]]), torch.tensor(3e38), torch.zeros(0)]
    pointers = [gradient.data_ptr() for gradient in gradients]
    assert remove_nonfinite(gradients) == 3
    assert [gradient.flatten().tolist() for gradient in gradients[:2]] == [[1, 0, -2], [1e5, -1e5]]
    assert gradients[2].item() == pytest.approx(3e38)
    assert [gradient.data_ptr() for gradient in gradients] == pointers
    assert NONFINITE_LIMIT == 1e5


@pytest.mark.parametrize("gradients", [[], [torch.ones(3)], [torch.full([4], 3e38)]], ids=["none", "usual", "huge"])
def test_finite_gradients_stay(gradients: list[torch.Tensor]) -> None:
    """Also those whose norm overflows."""
    before = [gradient.clone() for gradient in gradients]
    assert remove_nonfinite(gradients) == 0
    assert all(torch.equal(*pair) for pair in zip(gradients, before, strict=True))


def test_parameters_without_gradients_are_left_out() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
    (phase,) = make_phases("G", module, ADAM, None)
    before = module[1].weight.clone()
    phase.run(Recorder(module[0]), [make_round(1.0)])
    assert torch.equal(module[1].weight, before)


def test_a_stopwatch_reads_nothing_before_its_first_stop() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    assert stopwatch.read_sec() is None
    stopwatch.start()
    assert stopwatch.read_sec() is None
    stopwatch.stop()
    assert stopwatch.read_sec() >= 0


def test_a_phase_measures_itself() -> None:
    module = make_module()
    phase: Phase = make_phases("G", module, ADAM, None)[0]
    assert phase.stopwatch.read_sec() is None
    phase.run(Recorder(module), [make_round(1.0)])
    assert phase.stopwatch.read_sec() > 0
