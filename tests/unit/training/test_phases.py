from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.helpers import assert_close
from torch_utils import training_stats
from training import checkpoint, phases
from training.augment import AugmentPipe
from training.loss import Loss, StyleGAN2Loss
from training.networks import Discriminator, Generator
from training.phases import Phase, make_phases
from training.round import Round

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


def stylegan2_phases(device: torch.device) -> Callable[[], None]:
    """All phases on tiny networks with augmentation, as a function that runs them."""
    sizes = {"channel_base": 256, "channel_max": 16, "num_fp16_res": 2, "conv_clamp": 256}
    G = Generator(8, 0, 8, 16, 3, synthesis_kwargs=sizes).to(device).train().requires_grad_(False)
    D = Discriminator(0, 16, 3, **sizes).to(device).train().requires_grad_(False)
    pipe = AugmentPipe(xflip=1, scale=1, hue=1, noise=1, cutout=1).to(device)
    loss = StyleGAN2Loss(device, G.mapping, G.synthesis, D, pipe, style_mixing_prob=1)
    shapes = [4, 3, 16, 16], [4, 0], [4, 8], [4, 0]
    rounds = [Round(*(torch.randn(shape, device=device) for shape in shapes))]
    everything = make_phases("G", G, ADAM, 4) + make_phases("D", D, ADAM, 16)

    def run() -> None:
        for phase in everything:
            phase.run(loss, rounds)

    return run


def test_phases_read_nothing_from_their_device() -> None:
    """The meta device has nothing to read."""
    run = stylegan2_phases(torch.device("meta"))
    collector = training_stats.Collector()
    run()
    for phase in ("Gmain", "Greg", "Dmain", "Dreg"):
        (moments,) = collector._pending[f"Health/nonfinite_grads/{phase}"].values()
        assert (moments.num, moments.sums.device.type) == (1, "meta")


@pytest.mark.gpu
def test_phases_do_not_wait_for_a_gpu() -> None:
    run = stylegan2_phases(torch.device("cuda"))
    collector = training_stats.Collector()
    run()  # compiles kernels and copies constants
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    collector.update()
    assert collector["Health/nonfinite_grads/Dreg"] == 0


def adam_of(device_types: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> torch.optim.Optimizer:
    """Adam where these types of devices have a fused one."""
    monkeypatch.setattr(phases, "FUSED_DEVICES", device_types)
    return make_phases("G", make_adam_module(), {**ADAM, **kwargs}, None)[0].optimizer


def make_adam_module() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(20, 3), torch.nn.Conv2d(3, 4, 3))
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def take_steps(optimizer: torch.optim.Optimizer, seeds: range) -> list[torch.Tensor]:
    parameters = optimizer.param_groups[0]["params"]
    for seed in seeds:
        torch.manual_seed(seed)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def test_the_optimizer_is_fused_where_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    assert adam_of(("cpu",), monkeypatch).param_groups[0]["fused"]
    assert not adam_of(("cuda",), monkeypatch).param_groups[0]["fused"]
    assert not adam_of(("cpu",), monkeypatch, fused=False).param_groups[0]["fused"]
    assert not adam_of(("cpu",), monkeypatch, foreach=True).param_groups[0]["fused"]
    (phase,) = make_phases("G", make_module(), {"class_name": "torch.optim.Rprop", "lr": 0.1}, None)
    assert isinstance(phase.optimizer, torch.optim.Rprop)  # there is no fused one
    assert "fused" not in ADAM


def test_the_optimizer_is_not_fused_where_parameters_are_not_contiguous() -> None:
    """PyTorch's fused kernels would mix up the elements of a parameter and its restored moments."""
    module = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    (phase,) = make_phases("G", module, ADAM, None)
    assert not phase.optimizer.param_groups[0]["fused"]


def test_fused_or_not_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, other = (take_steps(adam_of(types, monkeypatch), range(20)) for types in (("cpu",), ()))
    for parameter, expected in zip(fused, other, strict=True):
        assert_close(parameter, expected, rel=1e-6)


@pytest.mark.parametrize("types", [("cpu",), ()], ids=["fused", "not fused"])
def test_a_state_continues_to_the_last_bit(types: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU goes on with the kind of optimizer that the state comes from, although its own would be the other one."""
    straight = take_steps(adam_of(types, monkeypatch), range(20))
    stopped = adam_of(types, monkeypatch)
    halfway = take_steps(stopped, range(10))
    continued = adam_of(() if types else ("cpu",), monkeypatch)
    for parameter, value in zip(continued.param_groups[0]["params"], halfway, strict=True):
        parameter.data.copy_(value)
    tensors: dict[str, torch.Tensor] = {}
    tree = json.loads(json.dumps(checkpoint._take_tensors(stopped.state_dict(), "", tensors)))
    continued.load_state_dict(checkpoint._put_tensors(tree, tensors))
    assert all(map(torch.equal, take_steps(continued, range(10, 20)), straight))


def test_other_devices_do_not_take_over_how_a_cpu_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the meta device, which has no fused optimizer."""
    stopped = adam_of(("cpu",), monkeypatch)
    take_steps(stopped, range(2))
    (phase,) = make_phases("G", make_adam_module().to("meta"), ADAM, None)
    phase.optimizer.load_state_dict(stopped.state_dict())
    assert not phase.optimizer.param_groups[0]["fused"]
    assert stopped.param_groups[0]["fused"]
    assert {each["step"].item() for each in phase.optimizer.state.values()} == {2}


def test_parameters_without_gradients_are_left_out() -> None:
    module = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
    (phase,) = make_phases("G", module, ADAM, None)
    before = module[1].weight.clone()
    phase.run(Recorder(module[0]), [make_round(1.0)])
    assert torch.equal(module[1].weight, before)


def test_a_phase_measures_itself() -> None:
    module = make_module()
    phase: Phase = make_phases("G", module, ADAM, None)[0]
    assert phase.stopwatch.read_sec() is None
    phase.run(Recorder(module), [make_round(1.0)])
    assert phase.stopwatch.read_sec() > 0
