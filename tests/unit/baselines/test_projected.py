import io
import math
import pickle

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch.nn import functional
from torch.nn.utils import spectral_norm

from baselines.projected.discriminator import (
    CCM_CHANNELS,
    CSM_CHANNELS,
    FIRST_SIDES,
    Head,
    ProjectedDiscriminator,
    ProjectedFeatures,
)
from baselines.projected.fastgan import FastGANGenerator, SpectralNormConv2d
from baselines.projected.features import TAP_CHANNELS, FeaturePyramid, FrozenConv2d, find_weights
from baselines.projected.loss import ProjectedLoss
from tests.unit.baselines.toy import assert_close, expected_gradients, gradients, inputs, make_generator
from training.snapshots.load import load_networks

RESOLUTION = 8


@pytest.fixture(scope="module")
def pyramid():
    pyramid = FeaturePyramid()
    pyramid.load_pretrained()
    return pyramid


@pytest.fixture
def small_input(monkeypatch):
    """The feature network on images of 128 px instead of 224."""
    monkeypatch.setattr("baselines.projected.features.MIN_INPUT_PX", 128)


def test_features_are_those_of_the_package(pyramid):
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(find_weights(), weights_only=True))
    net.eval()
    img = torch.rand([2, 3, 224, 224]) * 2 - 1
    with torch.no_grad():
        x = net._swish(net._bn0(net._conv_stem(img)))
        expected = {}
        for i, block in enumerate(net._blocks):
            x = block(x)
            expected[i] = x
        found = pyramid(img)
    for x, block in zip(found, (2, 4, 10, 15), strict=True):
        assert torch.allclose(x, expected[block], atol=1e-6 * float(expected[block].abs().max()) + 1e-4)
    assert [list(x.shape[1:]) for x in found] == [[24, 56, 56], [40, 28, 28], [112, 14, 14], [320, 7, 7]]


def test_small_images_are_enlarged_and_large_ones_are_not(pyramid, small_input):
    img = torch.rand([1, 3, 32, 32])
    enlarged = functional.interpolate(img, size=(128, 128), mode="bilinear", align_corners=False)
    assert all(torch.equal(x, y) for x, y in zip(pyramid(img), pyramid(enlarged), strict=True))
    assert [x.shape[2] for x in pyramid(torch.rand([1, 3, 160, 160]))] == [40, 20, 10, 5]


@pytest.mark.parametrize(("size", "stride", "kernel_size"), [(7, 2, 3), (8, 2, 3), (9, 2, 5), (8, 1, 5), (2, 2, 5)])
def test_same_padding(size, stride, kernel_size):
    """Of TensorFlow: as little as possible, the odd pixel at the end."""
    conv = FrozenConv2d(1, 1, kernel_size, stride, is_activated=False)
    conv.weight.copy_(torch.randn_like(conv.weight))
    x = torch.randn([1, 1, size, size])
    num_out = math.ceil(size / stride)
    total = max((num_out - 1) * stride + kernel_size - size, 0)
    padded = torch.zeros([size + total, size + total])
    padded[total // 2 : total // 2 + size, total // 2 : total // 2 + size] = x[0, 0]
    expected = torch.tensor(
        [
            [
                float((padded[i : i + kernel_size, j : j + kernel_size] * conv.weight[0, 0]).sum())
                for j in range(0, num_out * stride, stride)
            ]
            for i in range(0, num_out * stride, stride)
        ]
    )
    assert torch.allclose(conv(x)[0, 0], expected, atol=1e-5)


def test_mixing(small_input):
    """Equations of BASELINES, written out."""
    features = ProjectedFeatures()
    features.pyramid.load_pretrained()
    img = torch.rand([1, 3, 128, 128]) * 2 - 1
    taps = features.pyramid(img)

    def mix(layer, x):
        weight = layer.weight[:, :, 0, 0]
        return torch.einsum("oi,nihw->nohw", weight, x) + layer.bias[:, None, None]

    c = [mix(getattr(features, f"channel_mix{i}"), tap) for i, tap in enumerate(taps)]

    def up(x):
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    y = {3: mix(features.scale_mix3, up(c[3]))}
    for i in (2, 1, 0):
        y[i] = mix(getattr(features, f"scale_mix{i}"), up(y[i + 1] + c[i]))
    for i, x in enumerate(features(img)):
        assert torch.allclose(x, y[i], rtol=1e-5, atol=1e-5), i
    assert [x.shape[1] for x in c] == [64, 128, 256, 512]
    assert [list(x.shape[1:]) for x in features(img)] == [[64, 64, 64], [64, 32, 32], [128, 16, 16], [256, 8, 8]]


def test_nothing_of_the_features_is_trained():
    D = ProjectedDiscriminator(0, RESOLUTION, 3)
    assert not list(D.features.parameters())
    assert {name.split(".")[0] for name, _ in D.named_parameters()} == {f"head{i}" for i in range(4)}
    assert "features.scale_mix2.weight" in D.state_dict(), "they are saved: they are random"
    assert "features.pyramid.block15.project.weight" in D.state_dict()


@pytest.mark.parametrize("is_separable", [False, True])
def test_heads_have_the_published_shapes(is_separable):
    widths = {8: 512, 16: 256, 32: 128, 64: 64}
    for channels, side in zip(CSM_CHANNELS, FIRST_SIDES, strict=True):
        head = Head(channels, side, 0, is_separable)
        assert head(torch.randn([2, channels, side, side]), None).shape == (2, 25), "5x5 logits at 256 px"
        actual_side = side * 224 // 256
        assert head(torch.randn([2, channels, actual_side, actual_side]), None).shape == (2, 16), "4x4 at 224 px"
        expected, width = 512 * 4 * 4, channels
        while side > 8:
            side //= 2
            if is_separable:
                expected += width * 9 + width * widths[side] + 2 * widths[side]
            else:
                expected += width * widths[side] * 16 + widths[side] + 2 * widths[side]
            width = widths[side]
        assert sum(parameter.numel() for parameter in head.parameters()) == expected


def test_channels():
    assert TAP_CHANNELS == (24, 40, 112, 320)
    assert CCM_CHANNELS == (64, 128, 256, 512)
    assert CSM_CHANNELS == (64, 64, 128, 256)


def test_conditional_logits(small_input):
    D = ProjectedDiscriminator(3, RESOLUTION, 3).eval()
    img, c = torch.rand([2, 3, 8, 8]), torch.eye(3)[:2]
    x = D.features(img)[3]
    head = D.head3
    maps = head.output(head.down0(x))
    hidden = head.label0.weight[:, :, 0, 0] / torch.linalg.matrix_norm(head.label0.weight[:, :, 0, 0], 2)
    out = head.label1.weight[:, :, 0, 0] / torch.linalg.matrix_norm(head.label1.weight[:, :, 0, 0], 2)
    for _ in range(200):  # until the power iteration has converged
        head.label0.train()(c[:, :, None, None])
        head.label1.train()(torch.zeros([1, 128, 1, 1]))
    embedding = functional.leaky_relu((c @ hidden.t()) @ out.t() + head.label1.bias, 0.2)
    expected = (maps * embedding[:, :, None, None]).sum(dim=1).flatten(1) / 8
    assert torch.allclose(head.eval()(x, c), expected, atol=1e-5)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_spectral_norm_is_that_of_torch(is_transposed):
    ours = SpectralNormConv2d(3, 4, 3, padding=1, bias=True, is_transposed=is_transposed)
    conv_class = torch.nn.ConvTranspose2d if is_transposed else torch.nn.Conv2d
    theirs = spectral_norm(conv_class(3, 4, 3, padding=1))
    with torch.no_grad():
        theirs.weight_orig.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
        theirs.weight_u.copy_(ours.u)
    x = torch.randn([2, 3, 5, 5])
    for _ in range(3):
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
        assert torch.allclose(ours.u, theirs.weight_u, atol=1e-6)
    grads = [
        torch.autograd.grad(layer(x).square().sum(), weight)[0]
        for layer, weight in ((ours, ours.weight), (theirs, theirs.weight_orig))
    ]
    assert torch.allclose(*grads, atol=1e-4)
    before = ours.u.clone()
    ours.eval()(x)
    assert torch.equal(ours.u, before)


@pytest.fixture
def loss(small_input):
    G = make_generator().requires_grad_(False)
    D = ProjectedDiscriminator(0, RESOLUTION, 3).requires_grad_(False)
    return ProjectedLoss(torch.device("cpu"), G.mapping, G.synthesis, D.eval())


def test_hinge_loss(loss):
    arguments = inputs(num=1)
    with torch.no_grad():
        fake_img = loss.run_G(arguments["gen_z"], arguments["gen_c"], sync=False)[0]

    def definition():
        real, fake = loss.D(arguments["real_img"], None), loss.D(fake_img, None)
        return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()

    expected = expected_gradients(loss.D, definition)
    assert_close(gradients(loss, "Dboth", loss.D, arguments), expected)


def test_generator_loss_and_the_mean_of_w(loss):
    arguments = inputs(num=1)
    loss.G_mapping.train()

    def definition():
        return -loss.D(loss.run_G(arguments["gen_z"], None, sync=False)[0], None).mean()

    expected = expected_gradients(loss.G_synthesis, definition)
    before = loss.G_mapping.w_avg.clone()
    assert_close(gradients(loss, "Gboth", loss.G_synthesis, arguments), expected)
    assert torch.equal(loss.G_mapping.w_avg, before)
    gradients(loss, "Dboth", loss.D, arguments)
    assert not torch.equal(loss.G_mapping.w_avg, before), "it moves while D is trained"


def test_rgb_only():
    with pytest.raises(ValueError, match="needs RGB images, got 1 channel"):
        ProjectedDiscriminator(0, 32, 1)


@pytest.mark.parametrize("is_lite", [False, True])
def test_fastgan(is_lite):
    G = FastGANGenerator(z_dim=6, c_dim=0, img_resolution=64, img_channels=3, is_lite=is_lite, ngf=4)
    z = torch.randn([3, 6])
    ws = G.mapping(z, None)
    assert ws.shape == (3, 1, 6)
    assert torch.allclose(ws.square().mean(dim=2), torch.ones([3, 1]), atol=1e-5)
    assert G(z, None).shape == (3, 3, 64, 64)
    widths = {4: 64, 8: 32, 16: 16, 32: 8, 64: 8}
    for side in (8, 16, 32, 64):
        block = getattr(G.synthesis, f"b{side}")
        assert list(block.conv0.conv.weight.shape) == [2 * widths[side], widths[side // 2], 3, 3]
        assert (block.conv1 is None) == is_lite
        assert (block.conv0.noise_strength is None) == is_lite
    assert list(G.synthesis.gate64.conv0.weight.shape) == [8, 64, 4, 4], "gates from side 4"
    assert not hasattr(G.synthesis, "gate32")
    with pytest.raises(ValueError, match="FastGAN does not have"):
        G(z, None, truncation_psi=0.5)


def test_fastgan_is_its_definition():
    G = FastGANGenerator(z_dim=6, c_dim=0, img_resolution=8, img_channels=3, is_lite=False, ngf=2).eval()
    synthesis = G.synthesis
    with torch.no_grad():
        for block in (synthesis.b8.conv0, synthesis.b8.conv1):
            block.noise_strength.fill_(0.5)
    z = torch.randn([2, 6])

    def weight(layer):
        matrix = layer.weight.transpose(0, 1) if layer.is_transposed else layer.weight
        v = functional.normalize(matrix.flatten(1).t() @ layer.u, dim=0)
        u = functional.normalize(matrix.flatten(1) @ v, dim=0)
        return layer.weight / (u @ matrix.flatten(1) @ v)

    def norm(layer, x):  # of a new layer in evaluation mode
        return x / math.sqrt(1 + layer.eps)

    def gated(x):
        value, gate = x.chunk(2, dim=1)
        return value * torch.sigmoid(gate)

    w = z / z.square().mean(dim=1, keepdim=True).sqrt()
    x = torch.einsum("ni,iohw->nohw", w, weight(synthesis.initial))
    x = gated(norm(synthesis.norm, x))
    x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    for block in (synthesis.b8.conv0, synthesis.b8.conv1):
        x = functional.conv2d(x, weight(block.conv), padding=1)
        x = gated(norm(block.norm, x))
    expected = functional.conv2d(x, weight(synthesis.output), synthesis.output.bias, padding=1)
    assert torch.allclose(G(z, None, noise_mode="none"), expected, atol=1e-5)
    first, second = (G(z, None, noise_mode="random") for _ in range(2))
    assert not torch.allclose(first, second), "noise is drawn anew"


def test_snapshots_open_without_executing_anything():
    G = FastGANGenerator(z_dim=6, c_dim=0, img_resolution=16, img_channels=3, ngf=2).eval()
    D = ProjectedDiscriminator(0, 16, 3).eval()
    file = io.BytesIO(pickle.dumps({"G": G, "D": D, "G_ema": G, "augment_pipe": None}))
    parts = load_networks(file).parts
    z = torch.randn([2, 6])
    assert torch.equal(parts["G_ema"](z, None, noise_mode="none"), G(z, None, noise_mode="none"))
    for name, tensor in D.state_dict().items():
        assert torch.equal(parts["D"].state_dict()[name], tensor), name
