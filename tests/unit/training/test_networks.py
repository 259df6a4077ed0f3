"""Values, derivatives and structure of the networks; layers have a file of their own."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests import naive_networks
from tests.helpers import (
    LAYOUTS,
    REL_NETWORK_GRAD,
    REPOSITORY,
    Case,
    assert_close,
    case_id,
    golden_cases,
    in_layout,
)
from tests.naive_networks import float64_state, part
from torch_utils.ops import demodulation, kernels, modulation
from training import networks
from training.networks import ARCHITECTURES, Discriminator, Generator

TINY = {"channel_base": 64, "channel_max": 6}
MBSTD = {"group_size": 4, "num_channels": 1}


def make_G(c_dim: int = 0, img_resolution: int = 16, num_layers: int = 2, **synthesis_kwargs: Any) -> Generator:
    """A generator whose biases and noise strengths are not 0, as after training."""
    torch.manual_seed(0)
    kwargs = {**TINY, **synthesis_kwargs}
    G = Generator(8, c_dim, 8, img_resolution, 3, {"num_layers": num_layers}, kwargs)
    return randomize(G)


def make_D(c_dim: int = 0, img_resolution: int = 16, **kwargs: Any) -> Discriminator:
    torch.manual_seed(1)
    return randomize(Discriminator(c_dim, img_resolution, 3, **{**TINY, "mapping_kwargs": {"num_layers": 2}, **kwargs}))


def randomize(module: Any) -> Any:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return module


def inputs(c_dim: int = 0, num: int = 4, img_resolution: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, labels and images."""
    torch.manual_seed(2)
    c = torch.nn.functional.one_hot(torch.arange(num) % max(c_dim, 1), max(c_dim, 1))[:, :c_dim].float()
    return torch.randn(num, 8), c, torch.randn(num, 3, img_resolution, img_resolution)


@pytest.mark.parametrize("case", list(golden_cases("networks", net="Generator")), ids=case_id)
def test_generators_match_the_golden_arrays(case: Case) -> None:
    args, arrays = case
    G = load_golden(Generator, args, arrays)
    z, c = torch.from_numpy(arrays["z"]), torch.from_numpy(arrays["c"])
    assert_close(G.mapping(z, c), arrays["ws"])
    assert_close(G.mapping(z, c, truncation_psi=0.6), arrays["ws_psi06"])
    assert_close(G.mapping(z, c, truncation_psi=0.6, truncation_cutoff=3), arrays["ws_psi06_cutoff3"])
    assert_close(G(z, c, noise_mode="const"), arrays["img_const"])
    assert_close(G(z, c, truncation_psi=0.6, noise_mode="none"), arrays["img_none"])


@pytest.mark.parametrize("case", list(golden_cases("networks", net="Discriminator")), ids=case_id)
def test_discriminators_match_the_golden_arrays(case: Case) -> None:
    args, arrays = case
    D = load_golden(Discriminator, args, arrays)
    img = torch.from_numpy(arrays["img"]).requires_grad_()
    logits = D(img, torch.from_numpy(arrays["c"]))
    assert_close(logits, arrays["logits"])
    (gimg,) = torch.autograd.grad(logits.sum(), img)
    assert_close(gimg, arrays["gimg"], REL_NETWORK_GRAD)


def load_golden(cls: type[torch.nn.Module], args: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """The network of a case; ``state_dict`` has exactly the reference's names and shapes."""
    net = cls(**args["kwargs"]).eval()
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    net.load_state_dict(part(state, "state:"), strict=True)
    return net


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generators_match_the_definition(architecture: str, c_dim: int) -> None:
    G = make_G(c_dim, architecture=architecture).eval()
    state, (z, c, _) = float64_state(G), inputs(c_dim)
    w = naive_networks.mapping(part(state, "mapping."), z, c)
    ws = torch.cat([G.mapping(z, c)[:, :3], torch.randn(4, G.num_ws - 3, 8)], dim=1)  # another style per layer
    assert_close(G.mapping(z, c)[:, 0], w)
    for noise_mode in ("const", "none"):
        expected = naive_networks.synthesis(part(state, "synthesis."), ws, architecture, noise_mode)
        assert_close(G.synthesis(ws, noise_mode=noise_mode), expected)


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_discriminators_match_the_definition(architecture: str, c_dim: int) -> None:
    D, (_, c, img) = make_D(c_dim, architecture=architecture), inputs(c_dim)
    assert_close(D(img, c), naive_networks.discriminator(float64_state(D), img, c, architecture, MBSTD))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_derivative_of_a_path_length_is_that_of_the_definition(architecture: str) -> None:
    assert_path_length_has_the_right_derivative(architecture)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthesis layers run as kernels, in Triton's interpreter."""
    replacement = SimpleNamespace(**{**vars(kernels), "are_wanted": lambda impl, x: True})
    for module in (modulation, demodulation):
        monkeypatch.setattr(module, "kernels", replacement)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_have_the_derivatives_of_the_definition(architecture: str) -> None:
    assert_path_length_has_the_right_derivative(architecture)


@pytest.mark.parametrize("settings", [{"conv_clamp": 1.5}, {"use_noise": False, "activation": "swish"}], ids=str)
def test_kernels_make_the_same_images(settings: dict[str, Any], request: pytest.FixtureRequest) -> None:
    def images(noise_mode: str) -> torch.Tensor:
        torch.manual_seed(3)
        return make_G(**settings).eval()(*inputs()[:2], noise_mode=noise_mode)

    expected = {noise_mode: images(noise_mode) for noise_mode in networks.NOISE_MODES}
    request.getfixturevalue("fused")
    for noise_mode, image in expected.items():
        assert_close(images(noise_mode), image)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generators_on_a_gpu(architecture: str) -> None:
    z, c, _ = inputs()
    for num_fp16_res, rel in [(0, REL_NETWORK_GRAD), (2, 0.01)]:
        G = make_G(architecture=architecture, num_fp16_res=num_fp16_res, conv_clamp=256).eval()
        expected = G(z, c, noise_mode="const")
        assert_close(G.cuda()(z.cuda(), c.cuda(), noise_mode="const"), expected, rel)


def test_the_operators_of_a_synthesis_layer_on_a_gpu() -> None:
    names: list[str] = []

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not func.is_view and "empty" not in func._schema.name:
                names.append(func._schema.name.rpartition("::")[2])
            return func(*args, **(kwargs or {}))

    with torch.device("meta"):
        layer = networks.SynthesisLayer(64, 32, w_dim=16, resolution=32)
        x, w = torch.empty(8, 64, 32, 32, memory_format=torch.channels_last), torch.empty(8, 16)
        x = x.half()
        with Operators():
            layer(x, w)
    assert names == ["mul", "addmm", "randn", "demodulation", "mul", "scale_act", "convolution", "scale_act"]


def assert_path_length_has_the_right_derivative(architecture: str) -> None:
    """Second-order gradients of the generator: how a length of the Jacobian changes with each parameter."""
    G = make_G(architecture=architecture)
    state, ws, direction = float64_state(G), torch.randn(2, G.num_ws, 8), torch.randn(2, 3, 16, 16)

    def squared_length(synthesis: Any) -> torch.Tensor:
        leaf = ws.clone().requires_grad_()
        (jacobian,) = torch.autograd.grad((synthesis(leaf) * direction).sum(), leaf, create_graph=True)
        return jacobian.double().square().sum()

    squared_length(lambda ws: G.synthesis(ws, noise_mode="const")).backward()
    squared_length(lambda ws: naive_networks.synthesis(part(state, "synthesis."), ws, architecture)).backward()
    assert_same_gradients(G.synthesis, part(state, "synthesis."))


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_derivative_of_r1_is_that_of_the_definition(architecture: str, c_dim: int) -> None:
    """Second-order gradients of the discriminator."""
    D, (_, c, img) = make_D(c_dim, architecture=architecture), inputs(c_dim)
    state = float64_state(D)

    def r1(judge: Any) -> torch.Tensor:
        leaf = img.clone().requires_grad_()
        (grad,) = torch.autograd.grad(judge(leaf).sum(), leaf, create_graph=True)
        return grad.double().square().sum()

    r1(lambda img: D(img, c)).backward()
    r1(lambda img: naive_networks.discriminator(state, img, c, architecture, MBSTD)).backward()
    assert_same_gradients(D, state)


def assert_same_gradients(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, parameter in module.named_parameters():
        expected = state[name].grad
        if parameter.grad is None or expected is None:
            assert all(grad is None or not grad.any() for grad in (parameter.grad, expected)), name
        elif expected.abs().max() > 1e-12:
            assert_close(parameter.grad, expected, REL_NETWORK_GRAD)


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_reach_every_parameter(architecture: str, c_dim: int) -> None:
    G, D = make_G(c_dim, architecture=architecture), make_D(c_dim, architecture=architecture)
    z, c, _ = inputs(c_dim)
    D(G(z, c), c).sum().backward()
    for module in (G, D):
        assert not [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(("channel_base", "num_params"), [(32768, 28_864_129), (16384, 24_001_089)])
def test_number_of_parameters_of_the_published_discriminators(channel_base: int, num_params: int) -> None:
    with torch.device("meta"):
        D = Discriminator(c_dim=0, img_resolution=256, img_channels=3, channel_base=channel_base)
    assert sum(parameter.numel() for parameter in D.parameters()) == num_params


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_number_of_ws(architecture: str) -> None:
    expected = {4: 2, 8: 4, 16: 6, 64: 10, 256: 14, 1024: 18}
    for resolution, num_ws in expected.items():
        with torch.device("meta"):
            G = Generator(
                4, 0, 4, resolution, 3, synthesis_kwargs={**TINY, "channel_base": 1024, "architecture": architecture}
            )
        assert (G.num_ws, G.synthesis.num_ws, G.mapping.num_ws) == (num_ws,) * 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_layer_gets_its_own_style_and_torgb_that_of_the_next(architecture: str) -> None:
    G, seen = make_G(architecture=architecture), {}
    for name, module in G.synthesis.named_modules():
        if name.endswith("affine"):
            module.register_forward_hook(lambda _module, args, _out, name=name: seen.update({name: int(args[0][0, 0])}))
    G.synthesis(torch.arange(6.0)[None, :, None].repeat(1, 1, 8))
    layers = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    expected = {f"{layer}.affine": i for i, layer in enumerate(layers)}
    torgbs = {"b4.torgb.affine": 1, "b8.torgb.affine": 3, "b16.torgb.affine": 5}
    if architecture != "skip":
        torgbs = {"b16.torgb.affine": 5}
    assert seen == {**expected, **torgbs}


def test_channels_follow_resolution_up_to_a_limit() -> None:
    G, D = make_G(channel_base=64, channel_max=6), make_D(channel_base=64, channel_max=6)
    assert {res: len(getattr(G.synthesis, f"b{res}").conv1.bias) for res in (4, 8, 16)} == {4: 6, 8: 6, 16: 4}
    assert {res: len(getattr(D, f"b{res}").conv1.bias) for res in (16, 8)} == {16: 6, 8: 6}
    assert D.b16.conv0.weight.shape[:2] == (4, 4)
    assert make_D(c_dim=3).mapping.w_dim == 6  # channels at 4x4
    assert make_D(c_dim=3, cmap_dim=5).b4.out.weight.shape == (5, 6)


@pytest.mark.parametrize(("num_fp16_res", "half"), [(0, []), (1, [16]), (2, [8, 16]), (4, [8, 16])])
def test_the_highest_resolutions_use_half_precision(num_fp16_res: int, half: list[int]) -> None:
    G, D = make_G(num_fp16_res=num_fp16_res), make_D(num_fp16_res=num_fp16_res)
    assert [res for res in (4, 8, 16) if getattr(G.synthesis, f"b{res}").use_fp16] == half
    assert [res for res in (8, 16) if getattr(D, f"b{res}").use_fp16] == half


LAYERS = {
    "resnet": "b16.fromrgb b16.conv0 b16.conv1 b16.skip b8.conv0 b8.conv1 b8.skip",
    "skip": "b16.fromrgb b16.conv0 b16.conv1 b8.fromrgb b8.conv0 b8.conv1",
    "orig": "b16.fromrgb b16.conv0 b16.conv1 b8.conv0 b8.conv1",
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_freezing_goes_from_the_image_on(architecture: str) -> None:
    everything = {name.rpartition(".")[0] for name, _ in make_D(architecture=architecture).named_parameters()}
    for freeze_layers in range(len(LAYERS[architecture].split()) + 2):
        D = make_D(architecture=architecture, block_kwargs={"freeze_layers": freeze_layers})
        frozen = everything - {name.rpartition(".")[0] for name, _ in D.named_parameters()}
        assert frozen == set(LAYERS[architecture].split()[:freeze_layers])
        assert D.state_dict().keys() == make_D(architecture=architecture).state_dict().keys()


def test_images_follow_their_latents() -> None:
    G, (z, c, _) = make_G(c_dim=3).eval(), inputs(c_dim=3)
    order = torch.tensor([2, 0, 3, 1])
    img = G(z, c, noise_mode="const")
    assert_close(G(z[order], c[order], noise_mode="const"), img[order])
    assert_close(G(z[:1], c[:1], noise_mode="const"), img[:1])
    assert not torch.allclose(G(z, c.roll(1, 0), noise_mode="const"), img)


def test_without_minibatch_statistics_logits_are_independent() -> None:
    _, c, img = inputs(c_dim=3)
    for num_channels in (0, 1):
        D = make_D(c_dim=3, epilogue_kwargs={"mbstd_num_channels": num_channels})
        is_independent = torch.allclose(D(img[:1], c[:1]), D(img, c)[:1], rtol=1e-4)
        assert is_independent == (num_channels == 0)
        assert not torch.allclose(D(img, c.roll(1, 0)), D(img, c))


def test_noise_modes() -> None:
    G, (z, c, _) = make_G().eval(), inputs()
    images = {mode: G(z, c, noise_mode=mode) for mode in networks.NOISE_MODES}
    assert torch.equal(G(z, c, noise_mode="const"), images["const"])
    assert torch.equal(G(z, c, noise_mode="none"), images["none"])
    assert not torch.allclose(images["const"], images["none"])
    assert not torch.allclose(G(z, c), images["random"])  # the default is random
    torch.manual_seed(5)
    again = G(z, c)
    torch.manual_seed(5)
    assert torch.equal(G(z, c, noise_mode="random"), again)
    first, second = G(z[:1].repeat(2, 1), c[:1].repeat(2, 1), noise_mode="random")
    assert (first - second).abs().max() > 0.01  # each image has its own


def test_no_noise_no_parameters_for_it() -> None:
    G, (z, c, _) = make_G(use_noise=False).eval(), inputs()
    assert not [name for name in G.state_dict() if "noise" in name]
    assert torch.equal(G(z, c), G(z, c, noise_mode="none"))


def test_on_a_cpu_half_precision_is_single_precision() -> None:
    z, c, img = inputs()
    G, D = make_G(num_fp16_res=2).eval(), make_D(num_fp16_res=2)
    assert torch.equal(G(z, c, noise_mode="const"), make_G().eval()(z, c, noise_mode="const"))
    assert torch.equal(D(img, c), make_D()(img, c))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_precision_is_close(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What accelerators compute, on this CPU: features in half precision, images and logits in single."""
    monkeypatch.setattr(networks, "_is_on_cpu", lambda x: False)
    z, c, img = inputs()
    settings = {"architecture": architecture, "num_fp16_res": 2, "conv_clamp": 256}
    G = make_G(**settings, fp16_channels_last=True).eval()
    D = make_D(**settings, block_kwargs={"fp16_channels_last": True})
    for net, args, kwargs in [(G, (z, c), {"noise_mode": "const"}), (D, (img, c), {})]:
        result = net(*args, **kwargs)
        exact = net(*args, **kwargs, force_fp32=True)
        assert result.dtype == exact.dtype == torch.float32
        assert not torch.equal(result, exact)
        assert_close(result, exact, rel=0.01)
        result.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_images_does_not_matter(layout: str) -> None:
    D, (_, c, img) = make_D(), inputs()
    assert_close(D(in_layout(img, layout), c), D(img, c))


def test_networks_in_float64_take_and_give_float32() -> None:
    z, c, img = inputs(c_dim=3)
    G, D = make_G(3).eval(), make_D(3)
    images, logits = G(z, c, noise_mode="const"), D(img, c)
    assert_close(G.double()(z.double(), c.double(), noise_mode="const"), images)
    assert_close(D.double()(img.double(), c.double()), logits)
    assert D(img, c).dtype == torch.float32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_empty_batch(architecture: str) -> None:
    G, D = make_G(3, architecture=architecture), make_D(3, architecture=architecture)
    z, c, _ = inputs(c_dim=3, num=0)
    img = G(z, c)
    logits = D(img, c)
    logits.sum().backward()
    assert (img.shape, logits.shape) == ((0, 3, 16, 16), (0, 1))
    assert not any(parameter.grad.any() for parameter in G.parameters())
    assert not G.mapping.w_avg.any()


def test_copies_are_independent() -> None:
    G, (z, c, _) = make_G().eval(), inputs()
    other = copy.deepcopy(G)
    assert torch.equal(other(z, c, noise_mode="const"), G(z, c, noise_mode="const"))
    other.synthesis.b4.const.data.zero_()
    assert not torch.allclose(other(z, c, noise_mode="const"), G(z, c, noise_mode="const"))


@pytest.mark.slow
def test_networks_compile_without_graph_breaks() -> None:
    z, c, img = inputs(c_dim=3)
    for net, args, kwargs in [(make_G(3).eval(), (z, c), {"noise_mode": "const"}), (make_D(3), (img, c), {})]:
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        assert_close(compiled(*args, **kwargs), net(*args, **kwargs))


def test_a_generator_exports_for_any_batch_size() -> None:
    G, (z, c, _) = make_G(3, use_noise=False).eval(), inputs(c_dim=3)
    batch = {0: torch.export.Dim("num_images", min=2, max=64)}
    program = torch.export.export(G, (z, c), dynamic_shapes={"z": batch, "c": batch})
    assert_close(program.module()(z[:2], c[:2]), G(z[:2], c[:2]))


FRESH_PROCESS = """
import pickle, sys, torch
G, D, z, c, img = pickle.load(open(sys.argv[1], "rb"))
assert type(G).__module__ != "training.networks" and "training" not in sys.modules  # it ran the embedded source
torch.save([G(z, c, noise_mode="const"), D(img, c), G.init_kwargs], sys.argv[2])
"""


def test_a_fresh_process_reads_the_pickle(tmp_path: Path) -> None:
    G, D, (z, c, img) = make_G(3).eval(), make_D(3).eval(), inputs(c_dim=3)
    source, result = tmp_path / "networks.pkl", tmp_path / "result.pt"
    source.write_bytes(pickle.dumps([G, D, z, c, img]))
    command = [sys.executable, "-W", "error", "-c", FRESH_PROCESS, str(source), str(result)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    images, logits, _kwargs = torch.load(result, weights_only=False)
    assert torch.equal(images, G(z, c, noise_mode="const"))
    assert torch.equal(logits, D(img, c))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((torch.zeros(2, 7), torch.zeros(2, 3)), {}, r"latents z must have shape \[N, 8\], got \[2, 7\]"),
        ((None, torch.zeros(2, 3)), {}, r"latents z must have shape \[N, 8\], got None"),
        ((torch.zeros(2, 8), torch.zeros(2, 4)), {}, r"labels c must have shape \[2, 3\], got \[2, 4\]"),
        ((torch.zeros(2, 8), torch.zeros(1, 3)), {}, r"labels c must have shape \[2, 3\], got \[1, 3\]"),
        ((torch.zeros(2, 8), torch.zeros(2)), {}, r"labels c must have shape \[2, 3\], got \[2\]"),
        ((torch.zeros(2, 8), None), {}, r"labels c must have shape \[2, 3\], got None"),
        ((torch.zeros(2, 8), torch.zeros(2, 3)), {"noise_mode": "off"}, "noise_mode must be .* const, none, got 'off'"),
    ],
)
def test_bad_input_of_a_generator_is_named(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_G(c_dim=3)(*args, **kwargs)


@pytest.mark.parametrize(
    ("img", "c", "message"),
    [
        (torch.zeros(4, 3, 8, 8), torch.zeros(4, 3), r"img must be .* \[N, 3, 16, 16\], got .*float32 \[4, 3, 8, 8\]"),
        (torch.zeros(4, 1, 16, 16), torch.zeros(4, 3), r"img must be .*, got torch.float32 \[4, 1, 16, 16\]"),
        (torch.zeros(3, 16, 16), torch.zeros(4, 3), r"img must be .*, got torch.float32 \[3, 16, 16\]"),
        (torch.zeros(4, 3, 16, 16).byte(), torch.zeros(4, 3), "img must be floating point .*, got torch.uint8 .*"),
        (torch.zeros(4, 3, 16, 16), torch.zeros(4, 2), r"labels c must have shape \[4, 3\], got \[4, 2\]"),
        (torch.zeros(4, 3, 16, 16), torch.zeros(1, 3), r"labels c must have shape \[4, 3\], got \[1, 3\]"),
        (torch.zeros(4, 3, 16, 16), None, r"labels c must have shape \[4, 3\], got None"),
        (
            torch.zeros(6, 3, 16, 16),
            torch.zeros(6, 3),
            "minibatch std: batch 6 must be a multiple of the group size 4 .*",
        ),
    ],
)
def test_bad_input_of_a_discriminator_is_named(img: Any, c: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_D(c_dim=3)(img, c)


def test_ws_of_another_network_are_refused() -> None:
    for shape in [(2, 5, 8), (2, 6, 7), (6, 8)]:
        with pytest.raises(ValueError, match=r"^ws must have shape \[N, 6, 8\], got \["):
            make_G().synthesis(torch.zeros(shape))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"img_resolution": 24}, "img_resolution must be a power of two of at least 4, got 24"),
        ({"img_resolution": 2}, "img_resolution must be .*, got 2"),
        ({"architecture": "unet"}, "architecture must be one of orig, skip, resnet, got 'unet'"),
        ({"channel_base": 8}, "channel_base must be at least the resolution, .*, got 8 and 6"),
        ({"channel_max": 0}, "channel_base must be .*, and channel_max at least 1, got 64 and 0"),
    ],
)
def test_bad_settings_are_named(kwargs: dict[str, Any], message: str) -> None:
    for make in (make_G, make_D):
        with pytest.raises(ValueError, match=f"^{message}$"):
            make(**kwargs)
