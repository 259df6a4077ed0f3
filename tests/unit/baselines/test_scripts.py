"""The scripts on a generator without an average w and with a single layer of w: FastGAN's."""

import copy

import pytest
import torch
from click.testing import CliRunner

from baselines.projected.fastgan import BatchNorm2d, FastGANGenerator
from generate import generate_images
from style_mixing import generate_style_mix
from tests import tiny_snapshot
from training.inference.export import export
from training.networks import Discriminator
from training.snapshots.portable import load_portable
from training.snapshots.save import save_snapshot

RESOLUTION_PX = 64  # the smallest with gates


@pytest.fixture
def network(tmp_path):
    """A snapshot whose statistics of batch normalization are not the initial ones, and its generator."""
    G = FastGANGenerator(z_dim=8, c_dim=0, img_resolution=RESOLUTION_PX, img_channels=3, ngf=4)
    for module in G.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = 1.0  # the statistics of one batch, without which the images of all z are nearly the same
    G(torch.randn([16, 8]), None)
    D = Discriminator(0, RESOLUTION_PX, 3, **tiny_snapshot.SMALL)
    path, G = tmp_path / "snapshot.pkl", G.eval().requires_grad_(False)
    save_snapshot(path, {"G": G, "D": D, "G_ema": copy.deepcopy(G), "augment_pipe": None}, tiny_snapshot.DATASET)
    return path, G


def run(command, *arguments):
    return CliRunner().invoke(command, [*map(str, arguments)])


def test_export_to_safetensors(network, tmp_path):
    path, G = network
    result = run(export, f"--network={path}", f"--dest={tmp_path / 'out'}")
    assert result.exit_code == 0, result.output
    z = torch.randn([3, 8])
    img = G(z, None, noise_mode="const")
    assert torch.equal(load_portable(tmp_path / "out")(z, None, noise_mode="const"), img)
    assert (img[0] - img[1]).abs().max() > 0.01


@pytest.mark.slow
def test_export_to_pt2(network, tmp_path):
    path, G = network
    result = run(export, f"--network={path}", f"--dest={tmp_path / 'out'}", "--format=pt2")
    assert result.exit_code == 0, result.output
    mapping, synthesis = (torch.export.load(tmp_path / "out" / f"{name}.pt2") for name in ("mapping", "synthesis"))
    z = torch.randn([3, 8])
    img = synthesis.module()(ws=mapping.module()(z=z))
    assert (img - G(z, None, noise_mode="const")).abs().max() <= 1e-5


def test_images_and_no_hint_at_what_is_refused(network, tmp_path):
    path, _G = network
    result = run(generate_images, f"--network={path}", f"--outdir={tmp_path}", "--seeds=0,1", "--device=cpu")
    assert result.exit_code == 0, result.output
    assert "style_mixing" not in result.output
    refused = run(generate_images, f"--network={path}", f"--outdir={tmp_path}", "--seeds=0", "--trunc=0.5")
    assert refused.output.startswith("Error: this network has no average w to truncate towards: use --trunc=1")


def test_styles_cannot_be_mixed(network, tmp_path):
    result = run(generate_style_mix, f"--network={network[0]}", f"--outdir={tmp_path}", "--rows=0", "--cols=1")
    assert result.exit_code == 1
    assert result.output == ("Error: this network takes the same w in all layers, so that there are no styles to mix\n")
