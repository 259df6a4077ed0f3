"""The phases: equality with StyleGAN2's loss, routing of gradients, statistics, several processes, learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from msconD import contrastive, views
from msconD.discriminator import MsConDDiscriminator, ScaleOutputs
from msconD.loss import MsConDLoss
from torch_utils import misc, training_stats
from training.augment import AugmentPipe
from training.loss import StyleGAN2Loss
from training.networks import Discriminator, Generator

TINY = {"channel_base": 256, "channel_max": 8}
REAL = {"con_views": "real"}
PHASES = ["Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth"]
Grads = dict[str, torch.Tensor | None]


def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(8, 0, 8, 32, 3, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=TINY)


def discriminator(**kwargs: Any) -> MsConDDiscriminator:
    torch.manual_seed(1)
    return MsConDDiscriminator(0, 32, 3, **({"proj_dim": 8} | TINY | kwargs))


def make_loss(D: torch.nn.Module, cls: Callable[..., Any] = MsConDLoss, **kwargs: Any) -> Any:
    G = generator()
    return cls(torch.device("cpu"), G.mapping, G.synthesis, D, **({"augment_pipe": None} | kwargs))


def run_phase(loss: Any, phase: str, gain: float = 1, sync: bool = True, seed: int = 2) -> Grads:
    """Gradients of one phase on a fixed batch of 4, like in the loop: only the network at hand takes any."""
    networks = {"G": [loss.G_mapping, loss.G_synthesis], "D": [loss.D]}
    for name, modules in networks.items():
        for module in modules:
            module.requires_grad_(phase[0] == name)
            module.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    real_img, c, z = torch.rand(4, 3, 32, 32) * 2 - 1, torch.zeros(4, 0), torch.randn(4, 8)
    loss.accumulate_gradients(phase, real_img, c, z, c, sync, gain)
    trained = torch.nn.ModuleList(networks[phase[0]])
    frozen = torch.nn.ModuleList(networks["D" if phase[0] == "G" else "G"])
    assert all(parameter.grad is None for parameter in frozen.parameters())
    return {name: parameter.grad for name, parameter in trained.named_parameters()}


def collected(run: Callable[[], Any]) -> dict[str, Any]:
    """Statistics by name of what ``run`` reports."""
    collector = training_stats.Collector(regex=".*")
    run()
    collector.update()
    return collector.as_dict()


@pytest.mark.parametrize("phase", PHASES)
def test_the_global_scale_alone_is_stylegan2(phase: str) -> None:
    reference = Discriminator(0, 32, 3, **TINY)
    D = discriminator(scales=[1], proj_dim=0)
    misc.copy_params_and_buffers(reference, D, require_all=True)
    pipe = {"augment_pipe": AugmentPipe(xflip=1, brightness=1)}
    expected = run_phase(make_loss(reference, StyleGAN2Loss, **pipe), phase, gain=3)
    found = run_phase(make_loss(D, con_weight=0, **pipe), phase, gain=3)
    assert list(found) == list(expected)
    for name, grad in expected.items():
        assert torch.equal(found[name], grad), name


def test_weight_0_trains_as_if_there_were_no_contrastive_loss() -> None:
    trained = {}
    for proj_dim in (0, 8):
        D = discriminator(proj_dim=proj_dim)
        misc.copy_params_and_buffers(discriminator(proj_dim=0), D)
        loss = make_loss(D, con_weight=0)
        optimizer = torch.optim.Adam(D.parameters(), lr=0.01, betas=(0.0, 0.99))
        for step in range(3):
            run_phase(loss, "Dmain", seed=step)
            optimizer.step()
            run_phase(loss, "Dreg", gain=16, seed=step)
            optimizer.step()
        trained[proj_dim] = D.state_dict()
    for name, value in trained[0].items():
        assert torch.equal(trained[8][name], value), name


def is_head(name: str, kind: str) -> bool:
    """Whether a parameter of D belongs to the ``disc`` or ``proj`` heads."""
    parts = name.removeprefix("0.").split(".")
    if kind == "proj":
        return parts[0] == "proj1" or parts[1].startswith("proj")
    return parts[1] == "disc" or parts[:2] == ["b4", "out"]


def test_contrastive_gradients_spare_the_logits() -> None:
    loss = make_loss(discriminator())
    loss.G_mapping.requires_grad_(False)
    loss.G_synthesis.requires_grad_(False)
    loss._contrast(torch.rand(4, 3, 32, 32), torch.zeros(4, 0), "Con").backward()
    for name, parameter in loss.D.named_parameters():
        if is_head(name, "disc"):
            assert parameter.grad is None, name
        elif not name.endswith("bias"):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("phase", ["Dmain", "Dreg", "Dboth"])
def test_adversarial_gradients_spare_the_projections(phase: str) -> None:
    for name, grad in run_phase(make_loss(discriminator(), con_weight=0), phase).items():
        assert grad is not None, name
        if is_head(name, "proj"):
            assert (grad == 0).all(), name


@pytest.mark.parametrize("kwargs", [{"r1_mode": "mean"}, {"r1_mode": "rademacher"}, {"r1_mode": "global"}, REAL])
def test_every_parameter_gets_a_gradient(kwargs: dict[str, Any]) -> None:
    for phase in ("Dmain", "Dreg", "Dboth"):
        grads = run_phase(make_loss(discriminator(), **kwargs), phase)
        assert all(grad is not None and grad.isfinite().all() for grad in grads.values())


@pytest.mark.parametrize("kwargs", [{"con_weight": 0}, {}, REAL])
def test_both_is_main_and_reg(kwargs: dict[str, Any]) -> None:
    loss = make_loss(discriminator(), **kwargs)
    both, main, reg = (run_phase(loss, phase, gain) for phase, gain in (("Dboth", 1), ("Dmain", 1), ("Dreg", 16)))
    for name, grad in both.items():
        expected = main[name] + reg[name] / 16
        assert (grad - expected).abs().max() <= 1e-5 * expected.abs().max() + 1e-9, name


@pytest.mark.parametrize("con_views", ["two", "real"])
@pytest.mark.parametrize("phase", PHASES)
def test_gain_multiplies_every_term(phase: str, con_views: str) -> None:
    weights = {"con_weight": 1, "con_fake_weight": 1, "con_g_weight": 1, "con_views": con_views}
    once, more = (run_phase(make_loss(discriminator(), **weights), phase, gain) for gain in (1, 4))
    for name, grad in once.items():
        assert (grad is None) == (more[name] is None), name
        assert grad is None or torch.equal(more[name] / 4, grad), name


@pytest.mark.parametrize("con_views", ["two", "real"])
@pytest.mark.parametrize("name", ["branch8.shared.conv0.weight", "branch16.shared.skip.weight", "b16.conv1.weight"])
def test_gradient_is_the_slope_of_the_reported_loss(name: str, con_views: str) -> None:
    weights = {"con_weight": 0.7, "con_fake_weight": 0.4, "adv_weights": [1, 2, 3]}
    loss = make_loss(discriminator(), con_views=con_views, **weights)

    def total() -> float:
        stats = collected(lambda: run_phase(loss, "Dmain"))
        return sum(
            weight * stats[key].mean for key, weight in {"Loss/D/loss": 1, "Con/loss": 0.7, "ConFake/loss": 0.4}.items()
        )

    grad = run_phase(loss, "Dmain")["0." + name]
    step = 0.01 * grad / grad.norm()
    parameter = loss.D.get_parameter(name)
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            parameter.add_(step * sign)
        values.append(total())
    assert math.isclose((values[0] - values[1]) / 0.02, grad.norm().item(), rel_tol=0.02)


@pytest.mark.parametrize(
    ("weight", "phase", "group"),
    [("con_weight", "Dmain", "Con"), ("con_fake_weight", "Dmain", "ConFake"), ("con_g_weight", "Gmain", "ConG")],
)
@pytest.mark.parametrize("con_views", ["two", "real"])
def test_weights_and_their_ramp(weight: str, phase: str, group: str, con_views: str) -> None:
    off = {"con_weight": 0, "con_views": con_views}
    without = run_phase(make_loss(discriminator(), **off), phase)
    loss = make_loss(discriminator(), con_ramp_kimg=0.016, **(off | {weight: 2}))
    full = run_phase(make_loss(discriminator(), **(off | {weight: 2})), phase)
    loss.con_nimg.fill_(4)
    name = "0.b16.conv0.weight" if phase == "Dmain" else "1.b32.conv1.weight"
    ramped = run_phase(loss, phase)
    share = 8 / 16 if phase == "Dmain" else 4 / 16
    assert torch.allclose(ramped[name] - without[name], (full[name] - without[name]) * share, atol=1e-6)
    assert (full[name] - without[name]).abs().max() > 1e-4
    assert f"{group}/top1_h16" in collected(lambda: run_phase(loss, phase))


@pytest.mark.parametrize("con_views", ["two", "real"])
def test_interval(con_views: str) -> None:
    kwargs = {"con_views": con_views}
    every, none = make_loss(discriminator(), **kwargs), make_loss(discriminator(), con_weight=0)
    third = make_loss(discriminator(), con_interval=3, **kwargs)
    name = "0.b16.conv0.weight"
    without = run_phase(none, "Dmain")[name]
    for batch in range(4):
        for sync in (False, True):  # two rounds each
            extra = run_phase(third, "Dmain", sync=sync)[name] - without
            expected = (run_phase(every, "Dmain")[name] - without) * (3 if batch % 3 == 0 else 0)
            assert torch.allclose(extra, expected, rtol=1e-4, atol=1e-6)


def images_seen(loss: Any, phase: str) -> list[torch.Tensor]:
    """Images of each pass of D during a phase."""
    passes = []
    with loss.D.register_forward_pre_hook(lambda _, args: passes.append(args[0].detach())):
        run_phase(loss, phase)
    return passes


@pytest.mark.parametrize(
    ("kwargs", "phase", "sizes"),
    [
        ({}, "Dmain", [4, 8, 4]),  # generated images, two views, real images
        (REAL, "Dmain", [4, 4, 4]),  # generated images, one view, real images
        (REAL, "Dboth", [4, 4, 4]),
        (REAL | {"con_fake_weight": 1}, "Dmain", [4, 8, 4, 4]),
        (REAL | {"con_weight": 0}, "Dmain", [4, 4]),
        (REAL, "Dreg", [4]),
        (REAL, "Gmain", [4]),
    ],
)
def test_passes_of_the_discriminator(kwargs: dict[str, Any], phase: str, sizes: list[int]) -> None:
    loss = make_loss(discriminator(), con_interval=2, **kwargs)
    assert [len(img) for img in images_seen(loss, phase)] == sizes
    if phase in ("Dmain", "Dboth"):  # the next batch is between intervals
        assert [len(img) for img in images_seen(loss, phase)] == [4, 4]


@pytest.mark.parametrize("phase", ["Dmain", "Dboth"])
def test_real_images_as_a_view_add_up_from_passes_of_their_own(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, thetas = AugmentPipe(xflip=1, scale=1, rotate=1, brightness=1), []
    draw = views.sample_thetas
    monkeypatch.setattr(views, "sample_thetas", lambda *args: thetas.append(draw(*args)) or thetas[-1])
    weights = {"con_weight": 0.7, "con_scale_weights": [1, 2, 3]}
    loss = make_loss(discriminator(), con_color_p=0, augment_pipe=pipe, **weights, **REAL)
    found = run_phase(loss, phase, gain=3)
    thetas.clear()
    _, view, augmented = images_seen(loss, phase)
    assert torch.equal(view, views.apply_thetas(augmented, *thetas))

    expected = run_phase(make_loss(discriminator(), con_weight=0, augment_pipe=pipe), phase, gain=3)
    D = discriminator()
    proj1, proj2 = (D(img, None, all_scales=True).proj for img in (augmented, view))
    losses, _ = contrastive.multiscale_losses(proj1, proj2, views.identity_thetas(4), *thetas, loss.settings)
    (0.7 * 3 * sum(losses[h] * share / 6 for h, share in {1: 1, 8: 2, 16: 3}.items())).backward()
    for name, parameter in D.named_parameters():
        total = expected[f"0.{name}"] + (0 if parameter.grad is None else parameter.grad)
        assert (found[f"0.{name}"] - total).abs().max() <= 1e-6 * total.abs().max() + 1e-8, name


class PlaceD(torch.nn.Module):
    """Discriminator whose embeddings are the colors of the image."""

    scales, proj_dim = (1, 8, 16), 3

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones([]))

    def forward(self, img: torch.Tensor, c: torch.Tensor, **_: Any) -> ScaleOutputs:
        maps = {h: torch.nn.functional.adaptive_avg_pool2d(img, h) * self.gain for h in self.scales}
        logits = {h: x[:, :1].flatten(1) if h == 1 else x[:, :1] for h, x in maps.items()}
        return ScaleOutputs(logits, {h: x.flatten(1) if h == 1 else x for h, x in maps.items()}, {})


@pytest.mark.parametrize("con_views", ["two", "real"])
def test_positives_show_the_same_place(con_views: str) -> None:
    """However the images of the adversarial loss were turned."""
    pipe = AugmentPipe(xflip=1, rotate90=1)
    loss = make_loss(PlaceD(), con_views=con_views, con_color_p=0, con_neg="image", augment_pipe=pipe)
    ticks = torch.linspace(-1, 1, 64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    img, c = torch.stack([x, y, torch.ones_like(x)]).repeat(20, 1, 1, 1), torch.zeros(20, 0)
    stats = collected(lambda: loss.accumulate_gradients("Dmain", img, c, torch.randn(20, 8), c, True, 1))
    for h in (8, 16):
        assert stats[f"Con/top1_h{h}"].mean > 0.9


@pytest.mark.parametrize("con_views", ["two", "real"])
@pytest.mark.parametrize("phase", ["Gmain", "Dboth"])
def test_no_phase_waits_for_values(phase: str, con_views: str) -> None:
    """On the meta device there are none, so that reading one, or a shape that depends on one, is an error."""
    device = torch.device("meta")
    G, D = generator().to(device), discriminator().to(device)
    weights = {"con_weight": 1, "con_fake_weight": 1, "con_g_weight": 1}
    loss = MsConDLoss(device, G.mapping, G.synthesis, D, AugmentPipe(brightness=1), con_views=con_views, **weights)
    c, img, z = (torch.empty(4, *shape, device=device) for shape in ([0], [3, 32, 32], [8]))
    collector = training_stats.Collector()
    loss.accumulate_gradients(phase, img, c, z, c, sync=True, gain=1)
    assert collector.names() == []  # it has listened, but has not been asked
    assert all(parameter.grad is not None for parameter in (G if phase[0] == "G" else D).parameters())


def test_arguments_of_stylegan2_may_be_given_by_position() -> None:
    loss = make_loss(discriminator())
    again = MsConDLoss(loss.device, loss.G_mapping, loss.G_synthesis, loss.D, None, 0.5, 3, con_weight=0.25)
    assert (again.style_mixing_prob, again.r1_gamma, again.settings.con_weight) == (0.5, 3, 0.25)


def test_state() -> None:
    loss, other = make_loss(discriminator()), make_loss(discriminator())
    run_phase(loss, "Dmain")
    run_phase(loss, "Greg")
    assert loss.con_nimg == 4
    other.load_state_dict({name: value.clone() for name, value in loss.state_dict().items()})
    assert (other.con_nimg, other.con_batches) == (4, 1)
    assert other.pl_mean == loss.pl_mean != 0


class ScriptedD(torch.nn.Module):
    """Discriminator with given, constant logits."""

    proj_dim = 0

    def __init__(self, values: dict[int, float]) -> None:
        super().__init__()
        self.scales = list(values)
        self.values = torch.nn.ParameterList([torch.tensor(value) for value in values.values()])

    def forward(self, img: torch.Tensor, c: torch.Tensor, **_: Any) -> ScaleOutputs:
        num, zero = len(img), img.sum(dim=[1, 2, 3]) * 0
        logits = {}
        for h, value in zip(self.scales, self.values, strict=True):
            logits[h] = (value + zero)[:, None] if h == 1 else (value + zero)[:, None, None, None].expand(num, 1, h, h)
        return ScaleOutputs(logits, {}, {})


@pytest.mark.parametrize(("ada_scale", "expected"), [("global", 1.0), ("mean", -1 / 3)])
def test_augmentation_is_controlled_by_the_global_logit(ada_scale: str, expected: float) -> None:
    loss = make_loss(ScriptedD({1: 2.0, 8: -1.0, 16: -3.0}), con_weight=0, ada_scale=ada_scale)
    stats = collected(lambda: run_phase(loss, "Dmain"))
    assert stats["Loss/signs/real"].num == 4
    assert math.isclose(stats["Loss/signs/real"].mean, expected, rel_tol=1e-6)
    assert stats["Loss/scores/real"].mean == stats["Loss/scores/real_h1"].mean == 2
    assert stats["Loss/signs/real_h16"].mean == stats["Loss/signs/fake_h16"].mean == -1
    assert stats["Loss/scores/fake_h16"].num == 4 * 256
    assert math.isclose(stats["Loss/D/adv_h8"].mean, math.log1p(math.exp(1)) + math.log1p(math.exp(-1)), rel_tol=1e-6)


def test_statistics_of_a_step() -> None:
    loss = make_loss(discriminator())
    stats = collected(lambda: [run_phase(loss, phase) for phase in PHASES])
    assert all(math.isfinite(value.mean) and math.isfinite(value.std) for value in stats.values())
    assert stats["Con/finite"].mean == 1
    for h in (8, 16):
        for name in ("loss", "excess", "top1", "pos_sim", "neg_sim", "uniformity", "norm", "num_pos", "valid_frac"):
            assert stats[f"Con/{name}_h{h}"].num > 0
        for name in ("Loss/G/adv", "Loss/D/adv", "Loss/spatial_std/real", "Loss/spatial_std/fake"):
            assert f"{name}_h{h}" in stats
    assert stats["Con/grad_norm_h16"].num == 4  # two views of each of two phases
    assert stats["Loss/D/grad_norm_h16"].num == 2
    assert not [name for name in stats if name.startswith(("ConFake", "ConG"))]


def test_no_overlap_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = make_loss(discriminator(scales=[1, 16]), con_scale_weights=[0, 1])
    corners = iter([-0.7, 0.7])
    theta = torch.tensor([[0.3, 0, 0], [0, 0.3, 0]])
    monkeypatch.setattr(
        views, "sample_thetas", lambda num, *_: (theta + torch.tensor([0, 0, next(corners)])).repeat(num, 1, 1)
    )
    stats = collected(lambda: run_phase(loss, "Dmain"))
    assert stats["Con/loss"].mean == 0
    assert stats["Con/empty_imgs_h16"].mean == 1
    assert stats["Con/grad_norm_h16"].mean == 0


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"r1_mode": "sum"}, "r1_mode: 'sum' is not one of 'mean', 'rademacher', 'global'"),
        ({"con_temp": 0.001}, "con_temp: 0.001 is not in the range x>=0.02"),
        ({"con_temp": math.nan}, "con_temp: nan is not a finite number"),
        ({"con_crop": [0.5, 0.2]}, r"con_crop: \[0.5, 0.2\] is not two fractions of the image area"),
        ({"adv_weights": [1, 1]}, r"need 3 weights for scales \[1, 8, 16\], got 2"),
        ({"con_max_anchors": "many"}, "con_max_anchors: 'many' is not a valid integer range"),
    ],
)
def test_bad_settings(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_loss(discriminator(), **kwargs)


def test_settings_that_do_not_fit_the_discriminator() -> None:
    with pytest.raises(ValueError, match="D must be a MsConDDiscriminator, got a Discriminator"):
        make_loss(Discriminator(0, 32, 3, **TINY))
    with pytest.raises(ValueError, match="needs projection heads, but D has proj_dim 0"):
        make_loss(discriminator(proj_dim=0))
    with pytest.raises(ValueError, match="phase must be one of"):
        run_phase(make_loss(discriminator()), "Dother")


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_the_task_can_be_learned(is_shuffled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overfit a few images; with positives drawn at random the same steps learn next to nothing."""
    num_images, num_steps = 4, 30
    if is_shuffled:
        true_distances = views.cell_distances
        monkeypatch.setattr(
            views, "cell_distances", lambda a, b, h: true_distances(a, b, h)[:, :, torch.randperm(h * h)]
        )
    D = discriminator(scales=[1, 16], channel_base=512, channel_max=32, proj_dim=16)
    loss = make_loss(D, con_color_p=0)
    img = torch.nn.functional.interpolate(torch.rand(num_images, 3, 8, 8) * 2 - 1, size=(32, 32), mode="bilinear")
    optimizer = torch.optim.Adam(D.parameters(), lr=0.005, betas=(0.0, 0.99))

    def step() -> None:
        optimizer.zero_grad()
        loss._contrast(img, torch.zeros(num_images, 0), "Con").backward()
        optimizer.step()

    for _ in range(num_steps):
        step()
    stats = collected(lambda: [step() for _ in range(5)])
    top1, excess = stats["Con/top1_h16"].mean, stats["Con/excess_h16"].mean
    chance = stats["Con/num_pos_h16"].mean / (num_images * 256)
    if is_shuffled:
        assert top1 < 5 * chance
        assert excess > -0.2
    else:
        assert top1 > 20 * chance
        assert excess < -1
