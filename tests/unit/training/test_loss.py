from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests import naive_networks
from tests.helpers import REL_NETWORK_GRAD, Case, assert_close, case_id, golden_cases
from tests.naive_networks import float64_state, part
from torch_utils import misc, training_stats
from training import loss as loss_module
from training.loss import (
    PHASES,
    Loss,
    StyleGAN2Loss,
    discriminator_loss_fake,
    discriminator_loss_real,
    generator_loss,
    path_lengths,
    r1_penalty,
)
from training.networks import Discriminator, Generator

TINY = {"channel_base": 64, "channel_max": 6}
Z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
C = torch.eye(3)[[0, 1, 2, 0]]
REAL = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def make_loss(augment_pipe: torch.nn.Module | None = None, **kwargs: Any) -> StyleGAN2Loss:
    """On networks without noise, so that a seed repeats everything."""
    torch.manual_seed(0)
    G = Generator(8, 3, 8, 16, 3, {"num_layers": 2}, {**TINY, "use_noise": False})
    D = Discriminator(3, 16, 3, **TINY, mapping_kwargs={"num_layers": 2})
    return StyleGAN2Loss(
        torch.device("cpu"), G.mapping, G.synthesis, D, augment_pipe, **{"style_mixing_prob": 0, **kwargs}
    )


def run_phase(loss: StyleGAN2Loss, phase: str, gain: float = 1) -> dict[str, torch.Tensor | None]:
    """Gradients of the networks that the phase trains; the others are frozen, as in the training loop."""
    modules = {"mapping": loss.G_mapping, "synthesis": loss.G_synthesis, "D": loss.D}
    for name, module in modules.items():
        module.requires_grad_((name == "D") == phase.startswith("D")).zero_grad(set_to_none=True)
    torch.manual_seed(3)
    loss.accumulate_gradients(phase, REAL, C, Z, C, sync=True, gain=gain)
    grads = {
        f"{prefix}.{name}": parameter.grad
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
    }
    trained = {name: grad for name, grad in grads.items() if name.startswith("D.") == phase.startswith("D")}
    assert all(grad is None for name, grad in grads.items() if name not in trained)
    return trained


def assert_gradients(actual: dict[str, Any], expected: dict[str, Any], rel: float = REL_NETWORK_GRAD) -> None:
    assert actual.keys() == expected.keys()
    for name, grad in expected.items():
        if grad is None or grad.abs().max() < 1e-12:
            assert not actual[name].any(), name
        else:
            assert_close(actual[name], grad, rel)


def collect(run: Callable[[], Any]) -> dict[str, Any]:
    """Statistics that ``run`` reports, by name."""
    collector = training_stats.Collector()
    run()
    collector.update()
    return collector.as_dict()


@pytest.mark.parametrize("phase", ["Gmain", "Dmain", "Dreg", "Dboth"])  # without random numbers
@pytest.mark.parametrize("case", list(golden_cases("loss")), ids=case_id)
def test_matches_the_golden_gradients(case: Case, phase: str) -> None:
    args, arrays = case
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    expected = part(tensors, f"{phase}:grad:")
    G, D = Generator(**args["g_kwargs"]), Discriminator(**args["d_kwargs"])
    G.load_state_dict(part(tensors, "state:"))
    D.load_state_dict(part(tensors, "Dstate:"))
    settings = {name: args[name] for name in ("style_mixing_prob", "r1_gamma", "pl_weight")}
    loss = StyleGAN2Loss(torch.device("cpu"), G.mapping, G.synthesis, D, **settings)
    c = tensors["c"]
    loss.accumulate_gradients(phase, tensors["real"], c, tensors["z"], c, sync=True, gain=args["gain"])
    grads = {name: parameter.grad for name, parameter in (G if phase[0] == "G" else D).named_parameters()}
    assert expected
    assert_gradients({name: grads[name] for name in expected}, expected)


@pytest.mark.parametrize("pl_batch_shrink", [1, 2, 9])
def test_path_length_phase_matches_the_definition(pl_batch_shrink: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(4, 3, 16, 16)
    monkeypatch.setattr(torch, "randn_like", lambda x: noise[: len(x)])
    settings = {"pl_batch_shrink": pl_batch_shrink, "pl_decay": 0.3, "pl_weight": 1.5}
    loss = make_loss(**settings)
    mapping, synthesis = float64_state(loss.G_mapping), float64_state(loss.G_synthesis)
    num = max(4 // pl_batch_shrink, 1)
    pl_mean = torch.zeros([], dtype=torch.float64)
    for _ in range(2):
        stats = collect(lambda: run_phase(loss, "Greg", gain=4))
        ws = naive_networks.mapping(mapping, Z[:num], C[:num])[:, None].repeat(1, 6, 1)
        img = naive_networks.synthesis(synthesis, ws)
        (jacobian,) = torch.autograd.grad((img * noise[:num] / 16).sum(), ws, create_graph=True)
        lengths = jacobian.square().sum(dim=2).mean(dim=1).sqrt()
        mean = pl_mean * 0.7 + lengths.mean() * 0.3
        penalty = (lengths - mean).square()
        leaves = [tensor for tensor in (*mapping.values(), *synthesis.values()) if tensor.requires_grad]
        expected = torch.autograd.grad(4 * 1.5 * penalty.mean(), leaves, materialize_grads=True)
        modules = (*loss.G_mapping.parameters(), *loss.G_synthesis.parameters())
        for parameter, grad in zip(modules, expected, strict=True):
            assert_close(parameter.grad, grad, REL_NETWORK_GRAD)
        pl_mean = mean.detach()
        assert_close(loss.pl_mean, pl_mean)
        assert stats["Loss/pl_penalty"]["num"] == num
        assert stats["Loss/pl_penalty"]["mean"] == pytest.approx(penalty.mean().item(), rel=1e-4)
        assert stats["Loss/G/reg"]["mean"] == pytest.approx(1.5 * penalty.mean().item(), rel=1e-4)
    assert (loss.pl_mean.dtype, loss.pl_mean.shape) == (torch.float32, ())


def test_logistic_terms() -> None:
    logits = torch.linspace(-90, 90, 19)
    values = logits.double().numpy()
    assert_close(generator_loss(logits), np.logaddexp(0, -values))
    assert_close(discriminator_loss_real(logits), np.logaddexp(0, -values))
    assert_close(discriminator_loss_fake(logits), np.logaddexp(0, values))


class Linear(torch.nn.Module):
    """Logit <direction, img>."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = torch.nn.Parameter(torch.randn(3, 16, 16))

    def forward(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return (img * self.direction).sum(dim=[1, 2, 3])[:, None]


class Affine(torch.nn.Module):
    """PyTorch's own layer, of the first argument."""

    def __init__(self, num_in: int, *out_shape: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(num_in, int(np.prod(out_shape)))
        self.out_shape = out_shape

    def forward(self, x: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.layer(x.flatten(1)).reshape(-1, *self.out_shape)


class Scale(torch.nn.Module):
    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return img * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None, None]


def test_r1_of_a_linear_discriminator() -> None:
    """It is the squared slope with respect to the images before augmentation, whatever they show."""
    loss = make_loss(augment_pipe=Scale(), r1_gamma=5)
    loss.D = Linear()
    direction = loss.D.direction.detach().clone()
    stats = collect(lambda: run_phase(loss, "Dreg", gain=16))
    squared_slopes = direction.square().sum() * torch.tensor([1.0, 4.0, 9.0, 16.0])
    assert stats["Loss/r1_penalty"]["num"] == 4
    assert stats["Loss/r1_penalty"]["mean"] == pytest.approx(squared_slopes.mean().item(), rel=1e-5)
    assert stats["Loss/D/reg"]["mean"] == pytest.approx(2.5 * squared_slopes.mean().item(), rel=1e-5)
    assert_close(loss.D.direction.grad, 16 * 2.5 * 2 * direction * 7.5)  # 7.5: mean of 1, 4, 9, 16
    img = REAL.clone().requires_grad_()
    assert_close(r1_penalty(loss.D(Scale()(img), C), img), squared_slopes)


def test_path_lengths_of_a_linear_generator() -> None:
    ws, matrix = torch.randn(3, 2, 5, requires_grad=True), torch.randn(2, 5, 2 * 4 * 6)
    img = torch.einsum("nlw,lwp->np", ws, matrix).reshape(3, 2, 4, 6)
    torch.manual_seed(7)
    lengths = path_lengths(img, ws)
    torch.manual_seed(7)
    noise = torch.randn(3, 2, 4, 6).flatten(1) / 24**0.5
    slopes = torch.einsum("lwp,np->nlw", matrix, noise)
    assert_close(lengths, slopes.square().sum(dim=2).mean(dim=1).sqrt())


@pytest.mark.parametrize(("both", "main", "reg"), [("Gboth", "Gmain", "Greg"), ("Dboth", "Dmain", "Dreg")])
def test_both_is_the_sum_of_main_and_lazy_regularization(both: str, main: str, reg: str) -> None:
    """Lazily the regularizer runs every 16th time with gain 16."""
    first, second = run_phase(make_loss(), main), run_phase(make_loss(), reg, gain=16)
    parts = {name: first[name] + second[name] / 16 for name in first}
    assert_gradients(run_phase(make_loss(), both), parts, rel=1e-5)


@pytest.mark.parametrize("phase", PHASES)
def test_gradients_are_means_times_the_gain(phase: str) -> None:
    once, thrice = run_phase(make_loss(), phase), run_phase(make_loss(), phase, gain=3)
    assert_gradients(thrice, {name: 3 * grad for name, grad in once.items()}, rel=1e-5)
    assert all(grad is not None for grad in once.values())  # DDP waits for every parameter


@pytest.mark.parametrize("phase", ["Greg", "Dreg"])
def test_parameters_that_a_regularizer_does_not_depend_on_get_zeros(phase: str) -> None:
    """DDP waits for a gradient of each, also of the biases of affine networks."""
    G_mapping, G_synthesis, D = Affine(8, 2, 5), Affine(2 * 5, 3, 16, 16), Affine(3 * 16 * 16, 1)
    grads = run_phase(StyleGAN2Loss(torch.device("cpu"), G_mapping, G_synthesis, D, style_mixing_prob=0), phase)
    assert not any(grad.any() for name, grad in grads.items() if name.endswith("bias"))


def test_rounds_add_up_to_the_batch() -> None:
    """Two halves, each a mean, give twice the gradient of the whole where images do not influence each other."""
    loss = make_loss()
    loss.D.b4.mbstd.group_size = 1
    for phase in ("Gmain", "Dmain", "Dreg"):
        whole = run_phase(loss, phase)
        module = loss.G_synthesis if phase[0] == "G" else loss.D
        module.zero_grad()
        for half in (slice(0, 2), slice(2, 4)):
            loss.accumulate_gradients(phase, REAL[half], C[half], Z[half], C[half], sync=half.stop == 4, gain=1)
        prefix = "synthesis." if phase[0] == "G" else "D."
        rounds = {prefix + name: parameter.grad / 2 for name, parameter in module.named_parameters()}
        assert_gradients(rounds, {name: grad for name, grad in whole.items() if name.startswith(prefix)})


LOGIT_STATS = {kind: {f"Loss/scores/{kind}", f"Loss/signs/{kind}"} for kind in ("real", "fake")}
STATS = {
    "Gmain": LOGIT_STATS["fake"] | {"Loss/G/loss"},
    "Greg": {"Loss/pl_penalty", "Loss/G/reg"},
    "Dmain": LOGIT_STATS["real"] | LOGIT_STATS["fake"] | {"Loss/D/loss"},
    "Dreg": LOGIT_STATS["real"] | {"Loss/r1_penalty", "Loss/D/reg"},
}
STATS["Gboth"], STATS["Dboth"] = STATS["Gmain"] | STATS["Greg"], STATS["Dmain"] | STATS["Dreg"]


@pytest.mark.parametrize("phase", PHASES)
def test_statistics_of_a_phase(phase: str) -> None:
    loss = make_loss()
    stats = collect(lambda: run_phase(loss, phase, gain=3))
    assert set(stats) == STATS[phase]
    assert all(each["num"] == (2 if name in STATS["Greg"] else 4) for name, each in stats.items())
    fake, real = loss.D(loss.G_synthesis(loss.G_mapping(Z, C)), C), loss.D(REAL, C)
    expected = {
        "Loss/scores/fake": fake,
        "Loss/signs/fake": fake.sign(),
        "Loss/scores/real": real,
        "Loss/signs/real": real.sign(),
        "Loss/G/loss": generator_loss(fake),
        "Loss/D/loss": discriminator_loss_fake(fake) + discriminator_loss_real(real),
    }
    for name in stats.keys() & expected:
        assert stats[name]["mean"] == pytest.approx(expected[name].mean().item(), rel=1e-5), name


@pytest.mark.parametrize(("phase", "settings"), [("Greg", {"pl_weight": 0}), ("Dreg", {"r1_gamma": 0})])
def test_a_regularizer_of_weight_0_costs_nothing(phase: str, settings: dict[str, float]) -> None:
    loss = make_loss(**settings)
    for module in (loss.G_mapping, loss.D):
        module.register_forward_hook(lambda *_: pytest.fail("the network ran"))
    stats = collect(lambda: run_phase(loss, phase))
    assert stats == {}
    assert loss.pl_mean == 0
    both, main = phase.replace("reg", "both"), phase.replace("reg", "main")
    assert_gradients(run_phase(make_loss(**settings), both), run_phase(make_loss(**settings), main), rel=0)


EXPECTED_SYNC = {
    "Gmain": ["mapping 1", "synthesis 1", "D 0"],
    "Greg": ["mapping 1", "synthesis 1"],
    "Gboth": ["mapping 0", "synthesis 0", "D 0", "mapping 1", "synthesis 1"],
    "Dmain": ["mapping 0", "synthesis 0", "D 0", "D 1"],
    "Dreg": ["D 1"],
    "Dboth": ["mapping 0", "synthesis 0", "D 0", "D 1"],
}


@pytest.mark.parametrize("phase", PHASES)
def test_processes_exchange_gradients_once_in_the_last_pass(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, seen = make_loss(), []
    names = {loss.G_mapping: "mapping", loss.G_synthesis: "synthesis", loss.D: "D"}

    @contextmanager
    def record(module: torch.nn.Module, sync: bool) -> Iterator[None]:
        seen.append(f"{names[module]} {int(sync)}")
        yield

    monkeypatch.setattr(misc, "ddp_sync", record)
    run_phase(loss, phase)
    assert seen == EXPECTED_SYNC[phase]
    seen.clear()
    loss.accumulate_gradients(phase, REAL, C, Z, C, sync=False, gain=1)
    assert seen == [name[:-1] + "0" for name in EXPECTED_SYNC[phase]]


def test_fakes_for_the_discriminator_need_no_gradients_of_the_generator() -> None:
    loss, seen = make_loss(), []
    loss.G_synthesis.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    run_phase(loss, "Dmain")
    assert seen == [False]


@pytest.mark.parametrize("phase", ["main", "Gfoo", "", "Dregg"])
def test_unknown_phases_are_refused(phase: str) -> None:
    with pytest.raises(ValueError, match=rf"^phase must be one of Gmain, Greg, .*, got '{phase}'$"):
        make_loss().accumulate_gradients(phase, REAL, C, Z, C, sync=True, gain=1)


def mixes(loss: StyleGAN2Loss, num: int) -> list[torch.Tensor]:
    """Which ws [L] of a batch differ from those of its own latents, for ``num`` batches."""
    own = loss.G_mapping.eval()(Z, C)
    loss.G_synthesis = torch.nn.Identity()
    results = []
    for _ in range(num):
        _img, ws = loss.run_G(Z, C, sync=True)
        is_other = (ws != own).any(dim=2)
        assert torch.equal(is_other, is_other[:1].expand(4, -1))  # one cutoff per batch
        results.append(is_other[0])
    return results


def test_style_mixing_replaces_the_later_layers() -> None:
    num, num_ws = 600, 6
    cutoffs = [int((~is_other).sum()) for is_other in mixes(make_loss(style_mixing_prob=0.6), num)]
    counts = np.bincount(cutoffs, minlength=num_ws + 1)
    assert counts[0] == 0
    assert counts.sum() == num
    for cutoff in range(1, num_ws + 1):
        share = 0.4 if cutoff == num_ws else 0.6 / (num_ws - 1)
        assert abs(counts[cutoff] - num * share) < 4 * math.sqrt(num * share * (1 - share)), cutoff
    for is_other in mixes(make_loss(style_mixing_prob=0.6), 20):
        assert torch.equal(is_other, is_other.sort().values)


@pytest.mark.parametrize("prob", [0, 1])
def test_style_mixing_never_and_always(prob: int) -> None:
    assert {bool(is_other[-1]) for is_other in mixes(make_loss(style_mixing_prob=prob), 20)} == {bool(prob)}
    assert not any(is_other[0] for is_other in mixes(make_loss(style_mixing_prob=prob), 20))


def test_the_second_latents_do_not_move_the_mean_of_w() -> None:
    results = []
    for prob in (0, 1):
        loss = make_loss(style_mixing_prob=prob)
        loss.run_G(Z, C, sync=True)
        results.append(loss.G_mapping.w_avg.clone())
    assert torch.equal(*results)
    assert results[0].any()


def test_the_discriminator_sees_augmented_images_only() -> None:
    loss = make_loss(augment_pipe=torch.nn.Hardtanh())
    seen: list[torch.Tensor] = []
    loss.D.register_forward_hook(lambda _module, args, _out: seen.append(args[0]))
    for phase in PHASES:
        run_phase(loss, phase)
    assert len(seen) == 7
    assert all(img.abs().max() == 1 for img in seen)
    assert loss.run_D(REAL, C, sync=False).shape == (4, 1)


def test_the_state_is_the_mean_of_path_lengths() -> None:
    loss, other = make_loss(), make_loss()
    run_phase(loss, "Greg")
    other.load_state_dict({name: tensor.clone() for name, tensor in loss.state_dict().items()})
    assert loss.pl_mean > 0
    assert torch.equal(other.pl_mean, loss.pl_mean)
    assert_gradients(run_phase(other, "Greg"), run_phase(loss, "Greg"), rel=0)
    assert Loss().state_dict() == {}


def test_constants_of_the_reference() -> None:
    loss = StyleGAN2Loss(torch.device("cpu"), *[torch.nn.Identity()] * 3)
    names = ("augment_pipe", "style_mixing_prob", "r1_gamma", "pl_batch_shrink", "pl_decay", "pl_weight")
    assert [getattr(loss, name) for name in names] == [None, 0.9, 10, 2, 0.01, 2]
    assert loss_module.PHASES == ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")
