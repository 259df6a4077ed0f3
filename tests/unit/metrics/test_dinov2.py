import pytest
import torch
import torch.nn.functional as F

from dnnlib.errors import UserError
from metrics.dinov2 import POSITIONS, DinoV2

WIDTH, DEPTH, HEADS = 12, 2, 3
SIZE = {"width": WIDTH, "depth": DEPTH, "num_heads": HEADS}


def published_names():
    """Names and shapes of the arrays in the published files, as arXiv:2304.07193 builds the network."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "mask_token": (1, WIDTH),
        "pos_embed": (1, 1 + POSITIONS**2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 14, 14),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    layers = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    layers |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    for i in range(DEPTH):
        for name, shape in layers.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"blocks.{i}.{name}"] = (WIDTH,)
    return shapes


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in published_names().items()}


@pytest.fixture
def weights(tmp_path, state):
    path = tmp_path / "dinov2.pth"
    torch.save(state, path)
    return path


def reference(state, img):
    """The same from PyTorch's layers; the scales of the residuals are part of the last linear map of each branch."""
    x = F.interpolate(img.float(), (224, 224), mode="bicubic", antialias=True).clamp(0, 255) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14).flatten(2).mT
    grid = state["pos_embed"][:, 1:].mT.reshape(1, WIDTH, POSITIONS, POSITIONS)
    grid = F.interpolate(grid, scale_factor=16.1 / POSITIONS, mode="bicubic").flatten(2).mT
    first = (state["cls_token"] + state["pos_embed"][:, :1]).expand(len(x), -1, -1)
    x = torch.cat([first, x + grid], dim=1)
    for i in range(DEPTH):
        block = {name.removeprefix(f"blocks.{i}."): value for name, value in state.items()}
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH,
            HEADS,
            4 * WIDTH,
            dropout=0,
            activation="gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        )
        for scale, name in (("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.fc2")):
            block[f"{name}.weight"] = block[f"{name}.weight"] * block[scale][:, None]
            block[f"{name}.bias"] = block[f"{name}.bias"] * block[scale]
        renamed = {"attn.qkv.weight": "self_attn.in_proj_weight", "attn.qkv.bias": "self_attn.in_proj_bias"}
        for kind in ("weight", "bias"):
            renamed |= {f"attn.proj.{kind}": f"self_attn.out_proj.{kind}", f"norm1.{kind}": f"norm1.{kind}"}
            renamed |= {f"mlp.fc1.{kind}": f"linear1.{kind}", f"mlp.fc2.{kind}": f"linear2.{kind}"}
            renamed |= {f"norm2.{kind}": f"norm2.{kind}"}
        layer.load_state_dict({new: block[old] for old, new in renamed.items()})
        x = layer(x)
    return F.layer_norm(x[:, 0], [WIDTH], state["norm.weight"], state["norm.bias"], eps=1e-6)


def test_features_are_those_of_pytorchs_transformer(weights, state):
    img = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = DinoV2(weights, **SIZE)(img)
    assert features.shape == (2, WIDTH)
    torch.testing.assert_close(features, reference(state, img), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", ["missing", "shape", "damaged"])
def test_other_files_are_refused(weights, state, change):
    if change == "missing":
        del state["blocks.1.ls1.gamma"]
    if change == "shape":
        state["norm.bias"] = torch.zeros(3)
    torch.save(state, weights)
    if change == "damaged":
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not DINOv2 ViT-L/14: "):
        DinoV2(weights, **SIZE)
