"""Architecture: table 1, parameter counts, equality with the StyleGAN2 discriminator, receptive fields, snapshots."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from msconD.discriminator import LocalBranch, MsConDDiscriminator, SharedBlock
from tests.helpers import assert_close
from torch_utils import misc
from training.networks import Discriminator

TINY = {"channel_base": 512, "channel_max": 16, "proj_dim": 8}


def tiny(resolution: int = 32, c_dim: int = 0, **kwargs: Any) -> MsConDDiscriminator:
    return MsConDDiscriminator(c_dim, resolution, 3, **(TINY | kwargs))


@pytest.fixture
def no_initial_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full-size networks are made in no time."""
    monkeypatch.setattr(torch, "randn", torch.empty)


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, 31_622_019),
        ({"proj1_layers": 1}, 31_359_363),
        ({"proj_dim": 0}, 30_440_067),
        ({"proj_dim": 0, "scales": [1]}, 28_864_129),
        ({"epilogue": "table", "proj1_layers": 1}, 28_994_947),
        ({"epilogue": "table", "proj1_layers": 1, "shared": "stack"}, 28_995_971),
        ({"epilogue": "table"}, 29_257_603),
    ],
)
@pytest.mark.usefixtures("no_initial_values")
def test_number_of_parameters(kwargs: dict[str, Any], expected: int) -> None:
    assert num_parameters(MsConDDiscriminator(0, 256, 3, **kwargs)) == expected


@pytest.mark.parametrize(("shared", "expected"), [("resblk", 1_181_953), ("stack", 1_182_465), ("chain", 1_182_465)])
def test_number_of_parameters_of_a_branch(shared: str, expected: int) -> None:
    assert num_parameters(LocalBranch(512, 0, 256, None, shared)) == expected


@pytest.mark.usefixtures("no_initial_values")
def test_shapes_of_table_1() -> None:
    shapes = {}

    def note(name: str) -> Any:
        def hook(module: torch.nn.Module, args: Any, out: Any) -> None:
            shapes[name] = list((out[0] if type(out) is tuple else out).shape[1:])

        return hook

    names = ("b256.fromrgb", "b256", "b128", "b64", "b32", "branch16.shared", "b16", "branch8.shared", "b8", "b4.fc")
    D = MsConDDiscriminator(0, 256, 3).to("meta")
    for name in names:
        D.get_submodule(name).register_forward_hook(note(name))
    D(torch.empty(1, 3, 256, 256, device="meta"), None, all_scales=True)
    assert shapes == {
        "b256.fromrgb": [128, 256, 256],
        "b256": [256, 128, 128],
        "b128": [512, 64, 64],
        "b64": [512, 32, 32],
        "b32": [512, 16, 16],
        "branch16.shared": [512, 16, 16],
        "b16": [512, 8, 8],
        "branch8.shared": [512, 8, 8],
        "b8": [512, 4, 4],
        "b4.fc": [512],
    }


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize(
    "kwargs", [{}, {"shared": "stack"}, {"shared": "chain"}, {"epilogue": "table"}, {"proj_dim": 0}]
)
def test_outputs(resolution: int, kwargs: dict[str, Any]) -> None:
    D = tiny(resolution, **kwargs)
    img = torch.randn(2, 3, resolution, resolution)
    out = D(img, None, all_scales=True)
    assert {h: list(x.shape) for h, x in out.logits.items()} == {1: [2, 1], 8: [2, 1, 8, 8], 16: [2, 1, 16, 16]}
    proj = {} if "proj_dim" in kwargs else {1: [2, 8], 8: [2, 8, 8, 8], 16: [2, 8, 16, 16]}
    assert {h: list(x.shape) for h, x in out.proj.items()} == proj
    assert torch.equal(D(img, None), out.logits[1])


def test_any_heights() -> None:
    out = tiny(64, scales=[32, 1, 4])(torch.randn(1, 3, 64, 64), None, all_scales=True)
    assert [list(x.shape[2:]) for x in out.logits.values()] == [[], [4, 4], [32, 32]]


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_equals_the_stylegan2_discriminator(architecture: str, c_dim: int) -> None:
    backbone = {"channel_base": 512, "channel_max": 16, "architecture": architecture}
    reference = Discriminator(c_dim, 32, 3, **backbone)
    torch.manual_seed(1)
    for scales in ([1], [1, 8, 16]):
        D = MsConDDiscriminator(c_dim, 32, 3, scales=scales, **backbone)
        new = set(D.state_dict()) - set(reference.state_dict())
        assert all(name.startswith(("proj1.", "branch8.", "branch16.")) for name in new)
        misc.copy_params_and_buffers(reference, D)
        img, c = torch.randn(4, 3, 32, 32), torch.randn(4, c_dim)
        assert torch.equal(D(img, c), reference(img, c))
        assert torch.equal(D(img, c, all_scales=True).logits[1], reference(img, c))


@pytest.mark.parametrize(("height", "extent_px"), [(16, 106), (8, 218)])
def test_receptive_field(height: int, extent_px: int) -> None:
    D = MsConDDiscriminator(0, 256, 1, channel_base=4096, channel_max=4)
    img = torch.randn(1, 1, 256, 256, requires_grad=True)
    i, j = height // 2, height // 2 - 1
    D(img, None, all_scales=True).proj[height][0, :, i, j].abs().sum().backward()
    for axis, cell in ((1, i), (0, j)):
        seen = img.grad[0, 0].abs().sum(axis).nonzero()[:, 0]
        assert len(seen) == seen[-1] - seen[0] + 1 == extent_px
        assert (seen[0] + seen[-1]) / 2 == (cell + 0.5) * 256 / height - 0.5


def test_branches_run_in_single_precision() -> None:
    D = tiny()
    D.b32.register_forward_hook(lambda *args: (args[2][0].half(), args[2][1]))
    out = D(torch.randn(2, 3, 32, 32), None, all_scales=True)
    assert out.features[16].dtype == torch.float16
    assert {x.dtype for x in [*out.logits.values(), *out.proj.values()]} == {torch.float32}


def test_local_scales_see_one_image_each() -> None:
    D, img = tiny(), torch.randn(4, 3, 32, 32)
    order = torch.tensor([2, 0, 3, 1])
    out, shuffled = (D(x, None, all_scales=True) for x in (img, img[order]))
    alone = D(img[:1], None, all_scales=True)
    for h in (8, 16):
        for maps, maps_shuffled, maps_alone in zip(out[:2], shuffled[:2], alone[:2], strict=True):
            assert torch.allclose(maps[h][order], maps_shuffled[h], atol=1e-5)
            assert torch.allclose(maps[h][:1], maps_alone[h], atol=1e-5)
    assert not torch.allclose(out.logits[1][:1], alone.logits[1], atol=1e-5)  # minibatch standard deviation


@pytest.mark.parametrize("kwargs", [{}, {"epilogue": "table"}, {"epilogue_kwargs": {"mbstd_num_channels": 0}}])
def test_batches_in_one_pass_do_not_see_each_other(kwargs: dict[str, Any]) -> None:
    D, img = tiny(**kwargs), torch.randn(8, 3, 32, 32)
    together, mixed = (D(img, None, all_scales=True, num_batches=num) for num in (2, 1))
    apart = [D(batch, None, all_scales=True) for batch in img.chunk(2)]
    for maps, *maps_apart in zip(together[:2], *(out[:2] for out in apart), strict=True):
        for h, x in maps.items():
            assert_close(x, torch.cat([each[h] for each in maps_apart]))
    assert torch.equal(mixed.proj[1], together.proj[1]) == bool(kwargs)  # else by minibatch standard deviation


@pytest.mark.slow
def test_the_compiler_takes_the_whole_forward_pass() -> None:
    D = tiny(16, c_dim=2, scales=[1, 8])
    img, c = torch.randn(4, 3, 16, 16), torch.eye(2)[[0, 1, 1, 0]]
    compiled = torch.compile(D, backend="eager", fullgraph=True)(img, c, all_scales=True, num_batches=2)
    for maps, expected in zip(compiled, D(img, c, all_scales=True, num_batches=2), strict=True):
        for h, x in maps.items():
            assert_close(x, expected[h])


def test_labels_reach_local_logits_only_where_asked() -> None:
    img = torch.randn(2, 3, 32, 32)
    for cond_local in (True, False):
        D = tiny(c_dim=3, cond_local=cond_local)
        first, second = (D(img, torch.eye(3)[[k, k]], all_scales=True) for k in (0, 1))
        assert not torch.equal(first.logits[1], second.logits[1])
        for h in (8, 16):
            assert first.logits[h].shape == (2, 1, h, h)
            assert torch.equal(first.logits[h], second.logits[h]) != cond_local
            assert torch.equal(first.proj[h], second.proj[h])


def dense(x: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    """A 1x1 convolution with equalized learning rate."""
    weight = layer.weight[:, :, 0, 0] / layer.weight.shape[1] ** 0.5
    bias = 0 if layer.bias is None else layer.bias[:, None, None]
    return torch.einsum("oi,nihw->nohw", weight, x) + bias


def relu(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=0) * 2**0.5


@pytest.mark.parametrize("kind", ["resblk", "stack", "chain"])
def test_formula_of_a_shared_block(kind: str) -> None:
    block, x = SharedBlock(6, kind), torch.randn(2, 6, 3, 3)
    for layer in block.children():
        if layer.bias is not None:
            torch.nn.init.normal_(layer.bias)
    if kind == "resblk":
        hidden = relu(dense(relu(dense(x, block.conv0)), block.conv1))
        expected = (dense(x, block.skip) + hidden) * 0.5**0.5
    elif kind == "stack":
        expected = x + dense(relu(dense(relu(dense(x, block.conv0)), block.conv1)), block.conv2)
    else:
        expected = x
        for layer in (block.conv0, block.conv1, block.conv2):
            expected = (expected + relu(dense(expected, layer))) * 0.5**0.5
    assert_close(block(x), expected)


def test_formula_of_conditional_logits() -> None:
    branch, x, cmap = LocalBranch(6, 4, 0, None, "resblk"), torch.randn(2, 6, 3, 3), torch.randn(2, 4)
    expected = torch.einsum("nohw,no->nhw", dense(x, branch.disc), cmap)[:, None] / 2
    assert_close(branch.logits(x, cmap), expected)


def test_without_embeddings_their_heads_stay_in_the_graph() -> None:
    D = tiny()
    out = D(torch.randn(2, 3, 32, 32), None, all_scales=True, embed=False)
    assert {h: list(x.shape) for h, x in out.proj.items()} == {1: [1, 8], 8: [1, 8, 1, 1], 16: [1, 8, 1, 1]}
    sum(x.square().sum() for x in out.proj.values()).backward()
    reached = {name for name, parameter in D.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in D.named_parameters() if "proj" in name}


def test_freezing_layers_leaves_the_branches_trainable() -> None:
    D = tiny(block_kwargs={"freeze_layers": 4})
    names = {name for name, _ in D.named_parameters()}
    assert "b32.conv0.weight" not in names
    assert {"b16.conv0.weight", "branch16.disc.weight"} <= names


@pytest.mark.parametrize("kwargs", [{}, {"epilogue": "table", "c_dim": 2}, {"shared": "chain", "proj1_layers": 1}])
def test_pickle_round_trip(kwargs: dict[str, Any]) -> None:
    D = tiny(**kwargs)
    img, c = torch.randn(2, 3, 32, 32), torch.randn(2, D.c_dim)
    before = D(img, c, all_scales=True)  # also: nothing of the forward pass stays behind in the module
    again = pickle.loads(pickle.dumps(D))
    assert again.init_kwargs == D.init_kwargs
    after = again(img, c, all_scales=True)
    for maps, maps_again in zip(before, after, strict=True):
        assert all(torch.equal(maps[h], maps_again[h]) for h in maps)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"scales": [8, 16]}, "scales must be 1 and any of"),
        ({"scales": [1, 32]}, r"any of 4, 8, 16 for images of 32 px"),
        ({"scales": [1, 8, 8]}, "got 1, 8, 8"),
        ({"scales": [1, 12]}, "got 1, 12"),
        ({"shared": "mlp"}, "shared must be one of resblk, stack, chain, got 'mlp'"),
        ({"epilogue": "none"}, "epilogue must be one of stylegan2, table, got 'none'"),
        ({"proj1_layers": 3}, "proj1_layers must be 1 or 2, got 3"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny(**kwargs)
