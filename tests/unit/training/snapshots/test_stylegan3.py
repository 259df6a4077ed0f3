import copy
import io
import pickle

import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.util import EasyDict
from tests import tiny_snapshot
from tests.tiny_snapshot import SMALL, Described, images, logits
from training.networks import Discriminator, Generator
from training.snapshots.load import load_networks


def other_snapshot(**settings) -> tuple[dict, dict]:
    """Ours, and the same as stylegan3 --cfg=stylegan2 describes it: flat, its own defaults left out."""
    precision = {"num_fp16_res": 2, "conv_clamp": 256}
    mapping = {"num_layers": 2}
    G = Generator(
        8, 3, 8, 16, 3, mapping_kwargs={**mapping, "w_avg_beta": 0.998}, synthesis_kwargs={**SMALL, **precision}
    )
    D = Discriminator(3, 16, 3, **SMALL, **precision).eval()
    torch.nn.init.normal_(G.mapping.w_avg)
    parts = {"G": G.eval(), "D": D, "G_ema": copy.deepcopy(G), "augment_pipe": None}
    sizes = {"c_dim": 3, "img_resolution": 16, "img_channels": 3}
    flat = EasyDict(z_dim=8, w_dim=8, mapping_kwargs=mapping, fused_modconv_default="inference_only", **sizes, **SMALL)
    described = {
        "G": Described(G, _init_args=(), _init_kwargs=EasyDict(flat, **settings)),
        "G_ema": Described(parts["G_ema"], _init_args=(), _init_kwargs=flat),
        "D": Described(D, _init_args=(), _init_kwargs=EasyDict(sizes, **SMALL)),
        "augment_pipe": None,
    }
    return parts, described


def test_networks_of_stylegan3_are_read_with_its_defaults():
    parts, other = other_snapshot()
    opened = load_networks(io.BytesIO(pickle.dumps(other))).parts
    for key in ("G", "G_ema"):
        assert torch.equal(images(opened[key]), images(parts[key]))
        assert opened[key].init_kwargs.synthesis_kwargs == parts[key].init_kwargs.synthesis_kwargs
        assert opened[key].init_kwargs.mapping_kwargs == parts[key].init_kwargs.mapping_kwargs
        assert [opened[key].synthesis.b16.use_fp16, opened[key].synthesis.b16.conv1.conv_clamp] == [True, 256]
    assert torch.equal(logits(opened["D"]), logits(parts["D"]))
    assert [opened["D"].b16.use_fp16, opened["D"].b8.conv1.conv_clamp] == [True, 256]


def test_what_is_said_counts_more_than_the_layers():
    _, other = other_snapshot(num_fp16_res=1, conv_clamp=64)
    G = load_networks(io.BytesIO(pickle.dumps(other)), ["G"]).parts["G"]
    assert [G.synthesis.b16.use_fp16, G.synthesis.b8.use_fp16, G.synthesis.b8.conv1.conv_clamp] == [True, False, 64]


def test_other_settings_are_refused_by_name():
    _, other = other_snapshot(magnitude_ema_beta=0.5)
    with pytest.raises(UserError, match=r"G: Generator cannot be built .*'magnitude_ema_beta'"):
        load_networks(io.BytesIO(pickle.dumps(other)))
    assert load_networks(io.BytesIO(pickle.dumps(other)), ["D", "G_ema"]).parts.keys() == {"D", "G_ema"}


def test_neutral_settings_may_stand_among_those_of_the_synthesis_network():
    parts = tiny_snapshot.snapshot()
    settings = {**parts["G"].init_kwargs, "synthesis_kwargs": {**SMALL, "fused_modconv_default": True}}
    data = pickle.dumps({"G": Described(parts["G"], _init_kwargs=settings)})
    G = load_networks(io.BytesIO(data), ["G"]).parts["G"]
    assert G.init_kwargs == parts["G"].init_kwargs


@pytest.mark.parametrize("settings", [{"mapping_kwargs": 3}, {"synthesis_kwargs": None}, {"synthesis_kwargs": [1]}])
def test_groups_of_settings_that_are_none(settings):
    parts = tiny_snapshot.snapshot()
    data = pickle.dumps({"G": Described(parts["G"], _init_kwargs={**parts["G"].init_kwargs, **settings})})
    with pytest.raises(UserError, match="G: Generator cannot be built"):
        load_networks(io.BytesIO(data), ["G"])
