"""The layers that networks are made of: their own formulas, settings and derivatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests import naive_networks
from tests.helpers import LAYOUTS, Case, assert_close, case_id, golden_cases, in_layout
from torch_utils.ops.upfirdn2d import setup_filter
from training.networks import (
    Conv2dLayer,
    DiscriminatorBlock,
    DiscriminatorEpilogue,
    FullyConnectedLayer,
    MappingNetwork,
    MinibatchStdLayer,
    SynthesisBlock,
    SynthesisLayer,
    ToRGBLayer,
    modulated_conv2d,
    normalize_2nd_moment,
)

LOW_PASS = setup_filter([1, 3, 3, 1])


@pytest.mark.parametrize("case", list(golden_cases("conv2d_resample", op="modulated_conv2d")), ids=case_id)
def test_modulated_conv2d_matches_the_golden_arrays(case: Case) -> None:
    args, arrays = case
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x, w, s = (tensors[name].requires_grad_() for name in "xws")
    kwargs = {name: args[name] for name in ("up", "padding", "demodulate", "flip_weight", "fused_modconv")}
    y = modulated_conv2d(x, w, s, noise=tensors.get("noise"), resample_filter=tensors["f"], **kwargs)
    assert_close(y, arrays["y"])
    for name, grad in zip("xws", torch.autograd.grad(y, [x, w, s], tensors["r"]), strict=True):
        assert_close(grad, arrays["g" + name])


MODULATED: list[tuple[int, dict[str, Any]]] = [
    (3, {"padding": 1}),
    (3, {"padding": 1, "up": 2, "flip_weight": False}),
    (3, {"padding": 1, "demodulate": False}),
    (1, {"demodulate": False}),
    (1, {}),
    (1, {"up": 2}),
    (3, {"padding": 1, "down": 2}),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("size", "kwargs"), MODULATED, ids=str)
def test_both_derivatives_of_modulated_conv2d(size: int, kwargs: dict[str, Any], layout: str) -> None:
    shapes = [(2, 2, 3, 2), (2, 2, size, size), (2, 2), (2, 1, 1, 1)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def fn(x: torch.Tensor, w: torch.Tensor, styles: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return modulated_conv2d(in_layout(x, layout), w, styles, noise, resample_filter=LOW_PASS, **kwargs)

    assert gradcheck(fn, tensors)
    assert gradgradcheck(fn, tensors)


@pytest.mark.parametrize("size", [1, 3])
def test_demodulation_cancels_scales(size: int) -> None:
    x, w, styles = torch.randn(2, 4, 5, 5), torch.randn(3, 4, size, size), torch.randn(2, 4)
    y = modulated_conv2d(x, w, styles, padding=size // 2)
    assert_close(modulated_conv2d(x, w, styles * torch.tensor([[50.0], [0.02]]), padding=size // 2), y)
    assert_close(modulated_conv2d(x, w * torch.rand(3, 1, 1, 1).add(0.5), styles, padding=size // 2), y)
    plain = modulated_conv2d(x, w, styles, padding=size // 2, demodulate=False)
    assert_close(modulated_conv2d(x, w, styles * 2, padding=size // 2, demodulate=False), plain * 2)


@pytest.mark.parametrize("size", [1, 3])
def test_demodulation_keeps_the_variance(size: int) -> None:
    x = torch.randn(8, 16, 32, 32)
    y = modulated_conv2d(x, torch.randn(32, 16, size, size) * 7, torch.randn(8, 16) * 3)
    assert y.std() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("style", "scale"), [(1e4, 1.0), (1.0, 1e4), (1e4, 1e4), (1e-2, 1e-1)])
def test_half_precision_survives_large_and_small_factors(style: float, scale: float, size: int) -> None:
    """Their products would leave the range of float16, 6e-8 to 65504."""
    shapes = {(2, 64, 4, 4): 10.0, (5, 64, size, size): scale, (2, 64): style, (1, 1, 4, 4): 1.0}
    x, w, styles, noise = ((torch.randn(shape) * factor).requires_grad_() for shape, factor in shapes.items())
    y = modulated_conv2d(x.half(), w, styles, noise, padding=size // 2)
    assert y.dtype == torch.float16
    assert_close(y.float(), modulated_conv2d(x, w, styles, noise, padding=size // 2), rel=0.01)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.float().sum(), [x, w, styles, noise]))


@pytest.mark.parametrize("size", [1, 3])
def test_half_precision_survives_factors_of_zero(size: int) -> None:
    x, w, styles = torch.randn(2, 4, 5, 5), torch.randn(3, 4, size, size), torch.randn(2, 4)
    w[1], styles[0] = 0, 0
    y = modulated_conv2d(x.half(), w, styles, padding=size // 2)
    assert_close(y.float(), modulated_conv2d(x, w, styles, padding=size // 2), rel=0.01)


@pytest.mark.parametrize("size", [1, 3])
def test_noise_is_added_and_left_alone(size: int) -> None:
    x, w, styles = torch.randn(2, 4, 5, 5), torch.randn(3, 4, size, size), torch.randn(2, 4)
    for shape in [(5, 5), (2, 1, 5, 5), (1, 3, 1, 1)]:
        noise = torch.randn(shape)
        before = noise.clone()
        for demodulate in (True, False):
            kwargs = {"padding": size // 2, "demodulate": demodulate}
            expected = modulated_conv2d(x, w, styles, **kwargs) + noise
            assert_close(modulated_conv2d(x, w, styles, noise, **kwargs), expected)
        assert torch.equal(noise, before)


@pytest.mark.parametrize("down", [1, 2])
def test_noise_after_a_pointwise_convolution_that_resamples(down: int) -> None:
    x, w, styles = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(5, 3, 1, 1), torch.randn(2, 3)
    kwargs = {"demodulate": False, "up": 2 // down, "down": down}
    noise = torch.randn(2, 1, 8 // down**2, 8 // down**2)
    assert_close(modulated_conv2d(x, w, styles, noise, **kwargs), modulated_conv2d(x, w, styles, **kwargs) + noise)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"weight": torch.zeros(5, 3, 3, 3)}, r"wrong shape: got \[5, 3, 3, 3\], expected \[any, 4, any, any\]"),
        ({"weight": torch.zeros(4, 3, 3)}, r"wrong shape: got \[4, 3, 3\], .*"),
        ({"styles": torch.zeros(2, 3)}, r"styles must have shape \[2, 4\], got \[2, 3\]"),
        ({"styles": torch.zeros(1, 4)}, r"styles must have shape \[2, 4\], got \[1, 4\]"),
        ({"noise": torch.zeros(7, 7)}, r"fma: shapes of a, b and c must broadcast, got .*, \[7, 7\]"),
    ],
)
def test_bad_input_of_modulated_conv2d_is_named(kwargs: dict[str, Any], message: str) -> None:
    good = {"x": torch.zeros(2, 4, 6, 6), "weight": torch.zeros(5, 4, 3, 3), "styles": torch.zeros(2, 4)}
    with pytest.raises(ValueError, match=f"^{message}$"):
        modulated_conv2d(**{**good, **kwargs})


@pytest.mark.parametrize("lr_multiplier", [1, 0.01])
@pytest.mark.parametrize("activation", ["linear", "lrelu", "tanh"])
def test_fully_connected(activation: str, lr_multiplier: float) -> None:
    layer = FullyConnectedLayer(5, 3, activation=activation, lr_multiplier=lr_multiplier, bias_init=2)
    x = torch.randn(4, 5)
    assert layer.bias.tolist() == [2, 2, 2]
    y = x @ layer.weight.t() * (lr_multiplier / 5**0.5) + 2 * lr_multiplier
    functions = {"linear": lambda y: y, "lrelu": naive_networks.lrelu, "tanh": torch.tanh}
    assert_close(layer(x), functions[activation](y))
    assert FullyConnectedLayer(5, 3, bias=False).bias is None


def test_weights_start_as_normal_numbers() -> None:
    for lr_multiplier in (1, 0.01):
        weight = FullyConnectedLayer(200, 200, lr_multiplier=lr_multiplier).weight
        assert weight.detach().std() * lr_multiplier == pytest.approx(1, rel=0.02)
    for layer in (Conv2dLayer(100, 40, 3), SynthesisLayer(100, 40, 4, 8), ToRGBLayer(100, 400, 4)):
        assert layer.weight.detach().std() == pytest.approx(1, rel=0.02)
        assert not layer.bias.any()
    layer = SynthesisLayer(100, 4, 4, 64)
    assert layer.noise_const.std() == pytest.approx(1, rel=0.04)
    assert layer.noise_strength.shape == ()
    assert layer.noise_strength == 0
    assert (layer.affine.bias == 1).all()


@pytest.mark.parametrize("kwargs", [{}, {"up": 2}, {"down": 2}, {"bias": False, "activation": "linear"}], ids=str)
def test_gain_scales_output_and_clamp(kwargs: dict[str, Any]) -> None:
    kwargs = {"activation": "lrelu", **kwargs}
    layer, x = Conv2dLayer(3, 4, 3, conv_clamp=0.5, **kwargs), torch.randn(2, 3, 6, 6)
    free = Conv2dLayer(3, 4, 3, **kwargs)
    free.load_state_dict(layer.state_dict())
    for gain in (1, 0.5):
        limit = 0.5 * gain
        assert free(x, gain=gain).abs().max() > limit
        assert_close(layer(x, gain=gain), (free(x) * gain).clamp(-limit, limit))


def test_the_clamp_of_synthesis_layers() -> None:
    w = torch.randn(2, 4)
    for cls, args in [(SynthesisLayer, (3, 4, 4, 6)), (ToRGBLayer, (3, 4, 4))]:
        layer = cls(*args, conv_clamp=0.25)
        assert layer(torch.randn(2, 3, 6, 6), w).abs().max() == 0.25
    assert SynthesisLayer(3, 4, 4, 6, conv_clamp=0.25)(torch.randn(2, 3, 6, 6), w, gain=0.5).abs().max() == 0.125


def test_the_linear_branches_of_residual_blocks_are_not_clamped() -> None:
    D = DiscriminatorBlock(0, 4, 4, 8, 3, first_layer_idx=0, conv_clamp=0.25)
    G = SynthesisBlock(4, 4, 4, 8, 3, is_last=True, architecture="resnet", conv_clamp=0.25)
    assert [D.fromrgb.conv_clamp, D.conv0.conv_clamp, D.conv1.conv_clamp, D.skip.conv_clamp] == [0.25, 0.25, 0.25, None]
    assert [G.conv0.conv_clamp, G.conv1.conv_clamp, G.skip.conv_clamp] == [0.25, 0.25, None]


LAYERS = {
    "fc": (lambda: FullyConnectedLayer(3, 2, activation="lrelu"), [(2, 3)]),
    "conv": (lambda: Conv2dLayer(2, 2, 3, activation="lrelu", conv_clamp=0.9), [(1, 2, 4, 4)]),
    "conv up": (lambda: Conv2dLayer(2, 2, 1, bias=False, up=2), [(1, 2, 2, 3)]),
    "conv down": (lambda: Conv2dLayer(2, 2, 3, down=2, activation="swish"), [(1, 2, 4, 4)]),
    "synthesis": (lambda: SynthesisLayer(2, 2, 3, 4), [(2, 2, 4, 4), (2, 3)]),
    "synthesis up": (lambda: SynthesisLayer(2, 2, 3, 4, up=2, activation="tanh"), [(1, 2, 2, 2), (1, 3)]),
    "torgb": (lambda: ToRGBLayer(2, 3, 3), [(1, 2, 2, 3), (1, 3)]),
    "mbstd": (lambda: MinibatchStdLayer(2, 2), [(4, 2, 2, 1)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_both_derivatives_of_layers(name: str) -> None:
    make, shapes = LAYERS[name]
    layer = make().double()
    if "synthesis" in name:
        layer.noise_strength.data.fill_(0.3)
    kwargs = {"noise_mode": "const"} if "synthesis" in name else {}
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    names = [name for name, _ in layer.named_parameters()]

    def fn(*args: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, args[len(tensors) :], strict=True))
        return torch.func.functional_call(layer, parameters, args[: len(tensors)], kwargs)

    everything = [*tensors, *layer.parameters()]
    assert gradcheck(fn, everything)
    assert gradgradcheck(fn, everything)


@pytest.mark.parametrize(("num", "group_size"), [(4, 4), (8, 4), (8, 2), (3, 4), (6, None), (4, 1), (1, 4)])
@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_minibatch_std(num: int, group_size: int | None, num_channels: int) -> None:
    x = torch.randn(num, 6, 3, 2)
    expected = naive_networks.minibatch_std(x, group_size, num_channels)
    assert_close(MinibatchStdLayer(group_size, num_channels)(x), expected)


def test_bad_groups_are_named() -> None:
    message = "^minibatch std: batch 6 must be a multiple of the group size 4 and 4 channels of 3; choose another"
    with pytest.raises(ValueError, match=message):
        MinibatchStdLayer(4, 3)(torch.zeros(6, 4, 2, 2))


@pytest.mark.parametrize("cls", [FullyConnectedLayer, Conv2dLayer, SynthesisLayer])
def test_unknown_activations_are_named(cls: type[torch.nn.Module]) -> None:
    args = {FullyConnectedLayer: (2, 2), Conv2dLayer: (2, 2, 3), SynthesisLayer: (2, 2, 2, 4)}[cls]
    with pytest.raises(ValueError, match=r"^activation must be one of linear, relu, .*, swish, got 'gelu'$"):
        cls(*args, activation="gelu")


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (FullyConnectedLayer(3, 2), [(2, 4)]),
        (Conv2dLayer(3, 2, 3), [(2, 4, 8, 8)]),
        (SynthesisLayer(3, 2, 4, 8), [(2, 3, 4, 4), (2, 4)]),
        (SynthesisLayer(3, 2, 4, 8), [(2, 3, 8, 8), (2, 5)]),
        (ToRGBLayer(3, 2, 4), [(2, 3, 8, 8), (1, 4)]),
        (SynthesisBlock(3, 2, 4, 8, 3, is_last=True), [(2, 3, 8, 8), (2, 3, 4, 4), (2, 3, 4)]),
        (SynthesisBlock(3, 2, 4, 8, 3, is_last=True), [(2, 3, 4, 4), (2, 3, 8, 8), (2, 3, 4)]),
        (SynthesisBlock(3, 2, 4, 8, 3, is_last=True), [(2, 3, 4, 4), (2, 3, 4, 4), (2, 2, 4)]),
        (DiscriminatorBlock(3, 3, 2, 8, 3, 0), [(2, 3, 4, 4), (2, 3, 8, 8)]),
        (DiscriminatorBlock(3, 3, 2, 8, 3, 0, architecture="skip"), [(2, 3, 8, 8), (2, 3, 4, 4)]),
        (DiscriminatorEpilogue(3, 0, 4, 3), [(2, 3, 8, 8), (2, 3, 4, 4), (2, 0)]),
        (DiscriminatorEpilogue(3, 2, 4, 3), [(2, 3, 4, 4), (2, 3, 4, 4), (2, 3)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_wrong_shapes_are_refused(layer: torch.nn.Module, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"shape|channels"):
        layer(*(torch.zeros(shape) for shape in shapes))


def test_normalization() -> None:
    x = torch.randn(4, 7) * 50
    assert_close(normalize_2nd_moment(x).square().mean(dim=1), torch.ones(4))
    assert normalize_2nd_moment(torch.zeros(1, 4)).abs().max() == 0
    assert_close(normalize_2nd_moment(x, dim=0), normalize_2nd_moment(x.t()).t())


def test_the_mean_of_w_moves_towards_the_batch() -> None:
    net = MappingNetwork(6, 0, 5, num_ws=3, num_layers=2, w_avg_beta=0.8)
    expected = torch.zeros(5)
    for seed in range(3):
        z = torch.randn(7, 6, generator=torch.Generator().manual_seed(seed))
        ws = net(z, None)
        expected = ws[:, 0].mean(dim=0) + (expected - ws[:, 0].mean(dim=0)) * 0.8
        assert_close(net.w_avg, expected)
    assert not net.w_avg.requires_grad
    before = net.w_avg.clone()
    net(z, None, skip_w_avg_update=True)
    net(z[:0], None)
    net.eval()(z, None)
    assert torch.equal(net.w_avg, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_running_mean_of_another_dtype(dtype: torch.dtype) -> None:
    net = MappingNetwork(6, 0, 5, num_ws=3, num_layers=2, w_avg_beta=0.8).to(dtype)
    z = torch.randn(4, 6)
    assert_close(net(z, None)[:, 0].mean(dim=0) * 0.2, net.w_avg.float(), rel=0.01)


def test_running_mean_under_autocast() -> None:
    net = MappingNetwork(6, 0, 5, num_ws=3, num_layers=2, w_avg_beta=0.8)
    with torch.autocast("cpu", torch.bfloat16):
        ws = net(torch.randn(4, 6), None)
    assert (ws.dtype, net.w_avg.dtype) == (torch.bfloat16, torch.float32)
    assert_close(net.w_avg, ws[:, 0].float().mean(dim=0) * 0.2, rel=0.01)


@pytest.mark.parametrize("kwargs", [{"num_ws": None}, {"num_ws": 3, "w_avg_beta": None}], ids=str)
def test_without_a_mean_there_is_no_truncation(kwargs: dict[str, Any]) -> None:
    net, z = MappingNetwork(6, 0, 5, num_layers=1, **kwargs), torch.randn(2, 6)
    assert "w_avg" not in net.state_dict()
    assert net(z, None).shape == ((2, 5) if kwargs["num_ws"] is None else (2, 3, 5))
    with pytest.raises(ValueError, match=r"^truncation_psi=0.5 needs a running mean of w, .*; use 1$"):
        net(z, None, truncation_psi=0.5)


def test_truncation() -> None:
    net, z = MappingNetwork(6, 0, 5, num_ws=4, num_layers=1).eval(), torch.randn(2, 6)
    net.w_avg.copy_(torch.randn(5))
    ws = net(z, None)
    assert torch.equal(ws, ws[:, :1].repeat(1, 4, 1))
    for psi in (0, 0.3, -1, 1.5):
        truncated = net.w_avg + psi * (ws - net.w_avg)
        assert_close(net(z, None, truncation_psi=psi), truncated)
        for cutoff in (0, 1, 4, 9):
            expected = torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)
            assert_close(net(z, None, truncation_psi=psi, truncation_cutoff=cutoff), expected)


def test_widths_of_the_mapping_network() -> None:
    net = MappingNetwork(6, 3, 5, num_ws=2, num_layers=3, embed_features=4, layer_features=7)
    shapes = {name: list(parameter.shape) for name, parameter in net.named_parameters() if name.endswith("weight")}
    assert shapes == {"embed.weight": [4, 3], "fc0.weight": [7, 10], "fc1.weight": [7, 7], "fc2.weight": [5, 7]}
    assert MappingNetwork(6, 3, 5, num_ws=2).embed.weight.shape == (5, 3)


def test_only_directions_of_latents_matter() -> None:
    net, z, c = MappingNetwork(6, 3, 5, num_ws=2).eval(), torch.randn(2, 6), torch.eye(3)[:2]
    assert_close(net(z * 5, c), net(z, c))
    assert not torch.allclose(net(-z, c), net(z, c))
