import io
import pickle
import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.util import EasyDict
from legacy import load_network_pkl
from tests.fuzzing import fuzz, num_rounds
from torch_utils.safe_pickle import TFNetwork
from training.networks import Discriminator, Generator
from training.snapshots import tensorflow as tf_import
from training.snapshots.load import load_networks

RESOLUTION = 16
SETTINGS = {"resolution": RESOLUTION, "num_channels": 3, "label_size": 2, "fmap_base": 64, "fmap_max": 8}
GENERATOR_SETTINGS = {**SETTINGS, "latent_size": 6, "dlatent_size": 5, "mapping_layers": 2, "mapping_fmaps": 7}
DISCRIMINATOR_SETTINGS = {**SETTINGS, "mapping_layers": 1, "mapping_fmaps": 8, "mbstd_group_size": 2}


class Network:
    """Pickles like a network of the TensorFlow era."""

    def __init__(self, settings, variables, components=None):
        self.state = {
            "version": 5,
            "name": "G",
            "static_kwargs": EasyDict(settings),
            "components": components or {},
            "build_module_src": "raise SystemExit",
            "build_func_name": "G_main",
            "variables": list(variables.items()),
        }

    def __getstate__(self):
        return self.state


@pytest.fixture
def dumps(monkeypatch):
    """Pickle stand-ins under the name that such files give to the class."""

    def dump(networks) -> bytes:
        with monkeypatch.context() as patch:
            module = ModuleType("dnnlib.tflib.network")
            module.Network = Network
            patch.setitem(sys.modules, "dnnlib.tflib", ModuleType("dnnlib.tflib"))
            patch.setitem(sys.modules, "dnnlib.tflib.network", module)
            patch.setattr(Network, "__module__", "dnnlib.tflib.network")
            return pickle.dumps(networks)

    return dump


def randomize(network: torch.nn.Module) -> torch.nn.Module:
    for name, tensor in network.state_dict().items():
        if not name.endswith("resample_filter"):
            tensor.normal_()
    return network.eval().requires_grad_(False)


def dense(layer) -> dict[str, np.ndarray]:
    return {"weight": layer.weight.numpy().T, "bias": layer.bias.numpy()}


def conv(layer, mirrored: bool = False) -> dict[str, np.ndarray]:
    weight = layer.weight.numpy().transpose(2, 3, 1, 0)
    variables = {"weight": weight[::-1, ::-1].copy() if mirrored else weight}
    if layer.bias is not None:
        variables["bias"] = layer.bias.numpy()
    return variables


def styled(layer, mirrored: bool = False) -> dict[str, np.ndarray]:
    style = {"mod_weight": layer.affine.weight.numpy().T, "mod_bias": layer.affine.bias.numpy() - 1}
    if hasattr(layer, "noise_strength"):
        style["noise_strength"] = np.float32(layer.noise_strength.item())
    return conv(layer, mirrored) | style


def scoped(**scopes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{scope}/{name}": value for scope, variables in scopes.items() for name, value in variables.items()}


def tf_generator(G: Generator, **settings) -> Network:
    mapping = {"LabelEmbed": dense(G.mapping.embed), "Dense0": dense(G.mapping.fc0), "Dense1": dense(G.mapping.fc1)}
    first = G.synthesis.b4
    synthesis = {"4x4/Const": {"const": first.const.numpy()[None]}, "4x4/Conv": styled(first.conv1)}
    noise = [first.conv1.noise_const]
    for res in (8, 16):
        block = getattr(G.synthesis, f"b{res}")
        synthesis[f"{res}x{res}/Conv0_up"] = styled(block.conv0, mirrored=True)
        synthesis[f"{res}x{res}/Conv1"] = styled(block.conv1)
        noise += [block.conv0.noise_const, block.conv1.noise_const]
        if hasattr(block, "skip"):
            synthesis[f"{res}x{res}/Skip"] = conv(block.skip, mirrored=True)
    for res in (4, 8, 16):
        block = getattr(G.synthesis, f"b{res}")
        if hasattr(block, "torgb"):
            synthesis[f"{res}x{res}/ToRGB"] = styled(block.torgb)
    noise_variables = {f"noise{i}": constant.numpy()[None, None] for i, constant in enumerate(noise)}
    components = {
        "mapping": Network({}, scoped(**mapping)),
        "synthesis": Network({}, scoped(**synthesis) | noise_variables),
    }
    variables = {"lod": np.float32(0), "dlatent_avg": G.mapping.w_avg.numpy()}
    return Network({**GENERATOR_SETTINGS, **settings}, variables, components)


def tf_discriminator(D: Discriminator, **settings) -> Network:
    scopes = {"LabelEmbed": dense(D.mapping.embed), "Mapping0": dense(D.mapping.fc0)}
    for res in (16, 8):
        block = getattr(D, f"b{res}")
        scopes[f"{res}x{res}/Conv0"] = conv(block.conv0)
        scopes[f"{res}x{res}/Conv1_down"] = conv(block.conv1)
        if hasattr(block, "skip"):
            scopes[f"{res}x{res}/Skip"] = conv(block.skip)
    for res in (16, 8, 4):
        block = getattr(D, f"b{res}")
        if hasattr(block, "fromrgb"):
            scopes[f"{res}x{res}/FromRGB"] = conv(block.fromrgb)
    scopes |= {"4x4/Conv": conv(D.b4.conv), "4x4/Dense0": dense(D.b4.fc), "Output": dense(D.b4.out)}
    return Network({**DISCRIMINATOR_SETTINGS, **settings}, scoped(**scopes))


def generator(architecture: str = "skip") -> Generator:
    synthesis = {"channel_base": 128, "channel_max": 8, "architecture": architecture}
    return randomize(
        Generator(6, 2, 5, RESOLUTION, 3, {"num_layers": 2, "layer_features": 7}, synthesis_kwargs=synthesis)
    )


def discriminator(architecture: str = "resnet") -> Discriminator:
    mapping = {"num_layers": 1, "embed_features": 8, "layer_features": 8, "lr_multiplier": 0.1}
    return randomize(
        Discriminator(
            *(2, RESOLUTION, 3, architecture, 128, 8),
            mapping_kwargs=mapping,
            epilogue_kwargs={"mbstd_group_size": 2},
        )
    )


def load(data: bytes) -> dict:
    return load_network_pkl(io.BytesIO(data))


@pytest.fixture
def networks():
    """A stand-in for (G, D, Gs), to be spoiled."""
    return tf_generator(generator()), tf_discriminator(discriminator()), tf_generator(generator())


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_generators_give_the_same_images(architecture, networks, dumps):
    G, G_ema = generator(architecture), generator(architecture)
    tuple_ = tf_generator(G, architecture=architecture), networks[1], tf_generator(G_ema, architecture=architecture)
    loaded = load(dumps(tuple_))
    z, c = torch.randn([4, 6]), torch.eye(2)[[0, 1, 0, 1]]
    for key, network in (("G", G), ("G_ema", G_ema)):
        options = {"truncation_psi": 0.5, "noise_mode": "const"}
        torch.testing.assert_close(loaded[key](z, c, **options), network(z, c, **options))
        assert loaded[key].synthesis.b16.architecture == architecture
    assert (loaded["training_set_kwargs"], loaded["augment_pipe"]) == (None, None)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_discriminators_give_the_same_logits(architecture, networks, dumps):
    D = discriminator(architecture)
    loaded = load(dumps((networks[0], tf_discriminator(D, architecture=architecture), networks[2])))
    img, c = torch.randn([4, 3, RESOLUTION, RESOLUTION]), torch.eye(2)[[0, 1, 0, 1]]
    torch.testing.assert_close(loaded["D"](img, c), D(img, c))


def test_converted_networks_can_be_saved(networks, dumps):
    loaded = load(dumps(networks))
    again = load(pickle.dumps(loaded))
    assert torch.equal(again["G"].synthesis.b8.conv0.weight, loaded["G"].synthesis.b8.conv0.weight)


def test_settings_are_taken_over(networks, dumps):
    for network in networks:
        network.state["static_kwargs"].update(num_fp16_res=1, conv_clamp=64, nonlinearity="relu", structure="auto")
    loaded = load(dumps(networks))
    assert [loaded["G"].synthesis.b16.use_fp16, loaded["G"].synthesis.b8.use_fp16] == [True, False]
    assert [loaded["G"].synthesis.b8.conv0.conv_clamp, loaded["D"].b8.conv0.conv_clamp] == [64, 64]
    assert [loaded["G"].synthesis.b8.conv0.activation, loaded["D"].b8.conv0.activation] == ["relu", "relu"]


def test_missing_settings_take_the_published_defaults(monkeypatch):
    monkeypatch.setattr(tf_import, "_convert", lambda class_name, kwargs, *_: kwargs)
    G, D = tf_import.convert_generator(TFNetwork()), tf_import.convert_discriminator(TFNetwork())
    assert G == {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": 1024, "img_channels": 3}
    assert D["mapping_kwargs"] == {"num_layers": 0, "lr_multiplier": 0.1}


def test_progressive_networks_use_their_finest_level(dumps):
    G, D = generator("orig"), discriminator("orig")
    tf_G, tf_D = tf_generator(G), tf_discriminator(D)
    for variables, old, new in (
        (tf_G.state["components"]["synthesis"].state["variables"], "16x16/ToRGB", "ToRGB_lod"),
        (tf_D.state["variables"], "16x16/FromRGB", "FromRGB_lod"),
    ):
        renamed = [(name.replace(old, f"{new}0"), value) for name, value in variables]
        coarser = [(name.replace(old, f"{new}1"), value * 0) for name, value in variables if name.startswith(old)]
        variables[:] = coarser + renamed
    loaded = load(dumps((tf_G, tf_D, tf_G)))
    z, c, img = torch.randn([2, 6]), torch.eye(2), torch.randn([2, 3, RESOLUTION, RESOLUTION])
    torch.testing.assert_close(loaded["G"](z, c, noise_mode="const"), G(z, c, noise_mode="const"))
    torch.testing.assert_close(loaded["D"](img, c), D(img, c))


def test_unknown_settings_are_ignored_with_a_warning(networks, dumps):
    networks[0].state["static_kwargs"].update(resolution_w=16, resolution_h=16)
    with pytest.warns(UserWarning, match=r"ignored: resolution_h, resolution_w"):
        load(dumps(networks))


def test_lost_and_unknown_variables_are_errors(networks, dumps):
    variables = networks[0].state["components"]["mapping"].state["variables"]
    name, value = variables.pop()
    with pytest.raises(UserError, match=f"variable 'mapping/{name}' is missing"):
        load(dumps(networks))
    variables += [(name, value), ("LabelConcat/weight", value)]
    with pytest.raises(UserError, match="no counterpart for variables mapping/LabelConcat/weight"):
        load(dumps(networks))
    for strange in (np.zeros([3]), np.zeros([]), np.zeros([0, 0]), 1):
        variables[-2:] = [(name, strange)]
        with pytest.raises(UserError, match=f"variable 'mapping/{name}' gives a tensor of shape"):
            load(dumps(networks))
        variables.append((name, strange))


@pytest.mark.slow
def test_strange_shapes_are_errors(networks, dumps):
    for part in (networks[0].state["components"]["synthesis"], networks[1]):
        variables = part.state["variables"]
        for i, (name, value) in enumerate(list(variables)):
            for strange in (np.zeros([]), np.zeros([0, 0, 0, 0]), np.zeros([2, 2, 2, 2, 2])):
                variables[i] = (name, strange)
                if strange.shape != np.shape(value):
                    with pytest.raises(UserError):
                        load(dumps(networks))
            variables[i] = (name, value)


@pytest.mark.parametrize(
    "settings",
    [
        {"resolution": 1 << 30},
        {"mapping_layers": 10**6},
        {"fmap_base": "text"},
        {"fmap_base": {}},
        {"resolution": [[]]},
    ],
)
def test_settings_that_make_no_network_are_errors(settings, networks, dumps):
    networks[0].state["static_kwargs"].update(settings)
    with pytest.raises(UserError):
        load(dumps(networks))


def test_one_array_for_many_variables_counts_once(networks, dumps):
    """The settings ask for as many weights as the variables would hold if each had an array of its own."""
    shared = np.zeros([1000, 1000], np.uint8)
    variables = [(f"{res}x{res}/Conv0/weight", shared) for res in range(300)]
    networks[0].state["components"]["synthesis"].state["variables"] += variables
    networks[0].state["static_kwargs"].update(fmap_base=1 << 15, fmap_max=300)
    with pytest.raises(UserError, match="more weights than the file holds"):
        load(dumps(networks))


def test_weights_that_are_infinite_in_float32_are_refused(networks, dumps):
    variables = networks[2].state["components"]["mapping"].state["variables"]
    variables[0] = (variables[0][0], np.full_like(variables[0][1], 1e300, dtype=np.float64))
    with pytest.raises(UserError, match=r"G_ema: 'mapping\..*' is not finite"):
        load(dumps(networks))


def test_names_out_of_the_file_are_escaped(networks, dumps):
    networks[0].state["static_kwargs"]["\x1b[2J"] = 1
    with pytest.warns(UserWarning, match=r"ignored: \\x1b\[2J$"):
        load(dumps(networks))
    del networks[0].state["static_kwargs"]["\x1b[2J"]
    networks[0].state["variables"].append(("\x1b[2J\n", 1.0))
    with pytest.raises(UserError, match=r"no counterpart for variables \\x1b\[2J\\n$"):
        load(dumps(networks))


def test_networks_not_asked_for_may_be_damaged(networks, dumps):
    networks[0].state["variables"].clear()
    networks[1].state["static_kwargs"]["resolution"] = "x"
    data = dumps(networks)
    assert load_networks(io.BytesIO(data), ["G_ema"]).parts.keys() == {"G_ema"}
    with pytest.raises(UserError):
        load_networks(io.BytesIO(data), ["G", "G_ema"])


@pytest.mark.slow
def test_fuzzed_networks(networks, dumps):
    def read(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that are not known
            load_networks(io.BytesIO(data))

    assert fuzz(read, [dumps(networks)], num_rounds(100)) > 10


def test_two_networks_are_no_snapshot(networks, dumps):
    with pytest.raises(UserError, match="holds a tuple"):
        load(dumps(networks[:2]))


def test_such_files_need_no_trust(networks, dumps):
    with pytest.raises(UserError, match="without --trust-pickle"):
        load_network_pkl(io.BytesIO(dumps(networks)), trusted=True)
