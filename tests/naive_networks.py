"""Generator and discriminator in the plainest way, in float64: an oracle for values and derivatives of any order.

Written from the definition (arXiv 1912.04958, 2006.06676): zero-stuffed images, one set of weights per sample, the
convolution of PyTorch. Networks are given by their ``state_dict``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import conv2d, leaky_relu, pad

State = dict[str, torch.Tensor]


def float64_state(module: torch.nn.Module) -> State:
    """Independent copies; parameters require gradients."""
    trainable = {name for name, _ in module.named_parameters()}
    return {
        name: tensor.detach().double().requires_grad_(name in trainable) for name, tensor in module.state_dict().items()
    }


def part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def lrelu(x: torch.Tensor) -> torch.Tensor:
    return leaky_relu(x, 0.2) * 2**0.5


def normalize(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def fully_connected(state: State, x: torch.Tensor, lr_multiplier: float = 1) -> torch.Tensor:
    weight = state["weight"] * lr_multiplier / state["weight"].shape[1] ** 0.5
    return x @ weight.t() + state["bias"] * lr_multiplier


def low_pass(x: torch.Tensor) -> torch.Tensor:
    taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype) / 8
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return conv2d(x, kernel, groups=x.shape[1])


def upsample(x: torch.Tensor, margin: int = 0) -> torch.Tensor:
    """Twice the size, and ``margin`` pixels more on each side."""
    num, channels, height, width = x.shape
    stuffed = x.new_zeros(num, channels, height, 2, width, 2)
    stuffed[:, :, :, 0, :, 0] = x
    stuffed = stuffed.reshape(num, channels, 2 * height, 2 * width)
    return low_pass(pad(stuffed, [2 + margin, 1 + margin] * 2)) * 4


def mapping(state: State, z: torch.Tensor | None, c: torch.Tensor | None) -> torch.Tensor:
    parts = [] if z is None else [normalize(z.double())]
    if "embed.weight" in state:
        parts.append(normalize(fully_connected(part(state, "embed."), c.double())))
    x = torch.cat(parts, dim=1)
    for i in range(sum(name.startswith("fc") and name.endswith("weight") for name in state)):
        x = lrelu(fully_connected(part(state, f"fc{i}."), x, lr_multiplier=0.01))
    return x


def modulated_conv(state: State, x: torch.Tensor, w: torch.Tensor, up: int = 1) -> torch.Tensor:
    """Features of a synthesis layer before noise, bias and activation; a color layer has 1x1 weights."""
    styles = fully_connected(part(state, "affine."), w)
    size = state["weight"].shape[2]
    images = []
    for image, style in zip(x[:, None], styles, strict=True):
        weight = state["weight"] * style[None, :, None, None]
        if size == 3:
            weight = weight / (weight.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8).sqrt()
        else:
            weight = weight / weight.shape[1] ** 0.5
        # The layer that upsamples convolves, the others correlate.
        images.append(
            conv2d(upsample(image, 1), weight.flip([2, 3])) if up == 2 else conv2d(image, weight, padding=size // 2)
        )
    return torch.cat(images)


def synthesis_layer(state: State, x: torch.Tensor, w: torch.Tensor, up: int, noise_mode: str) -> torch.Tensor:
    x = modulated_conv(state, x, w, up)
    if noise_mode == "const" and "noise_const" in state:
        x = x + state["noise_const"] * state["noise_strength"]
    return lrelu(x + state["bias"][:, None, None])


def synthesis(state: State, ws: torch.Tensor, architecture: str = "skip", noise_mode: str = "const") -> torch.Tensor:
    ws = ws.double()
    resolutions = sorted({int(name.split(".")[0][1:]) for name in state})
    x, img, first = state["b4.const"].repeat(len(ws), 1, 1, 1), None, 0
    for res in resolutions:
        block = part(state, f"b{res}.")
        shortcut = x
        if res > 4:
            x = synthesis_layer(part(block, "conv0."), x, ws[:, first], 2, noise_mode)
            first += 1
        x = synthesis_layer(part(block, "conv1."), x, ws[:, first], 1, noise_mode)
        first += 1
        if res > 4 and architecture == "resnet":
            weight = block["skip.weight"] / block["skip.weight"].shape[1] ** 0.5
            x = (conv2d(upsample(shortcut), weight) + x) * 0.5**0.5
        img = None if img is None else upsample(img)
        if architecture == "skip" or res == resolutions[-1]:
            torgb = part(block, "torgb.")
            y = modulated_conv(torgb, x, ws[:, first]) + torgb["bias"][:, None, None]
            img = y if img is None else img + y
    return img


def conv_layer(state: State, x: torch.Tensor, down: int = 1, activate: bool = True) -> torch.Tensor:
    weight = state["weight"] / state["weight"][0].numel() ** 0.5
    if down == 2:
        x = low_pass(pad(x, [1 + weight.shape[2] // 2] * 4))
        x = conv2d(x, weight, stride=2)
    else:
        x = conv2d(x, weight, padding=weight.shape[2] // 2)
    return lrelu(x + state["bias"][:, None, None]) if activate else x


def minibatch_std(x: torch.Tensor, group_size: int | None, num_channels: int = 1) -> torch.Tensor:
    """By loops over groups and channels."""
    num, channels = x.shape[:2]
    group_size = num if group_size is None else min(group_size, num)
    num_groups, share = num // group_size, channels // num_channels
    extra = x.new_zeros(num, num_channels, *x.shape[2:])
    for group in range(num_groups):
        for k in range(num_channels):
            members = x[group::num_groups, k * share : (k + 1) * share]
            variance = (members - members.mean(dim=0)).square().mean(dim=0)
            extra[group::num_groups, k] = (variance + 1e-8).sqrt().mean()
    return torch.cat([x, extra], dim=1)


def discriminator(
    state: State,
    img: torch.Tensor,
    c: torch.Tensor | None = None,
    architecture: str = "resnet",
    mbstd: dict[str, Any] | None = None,
) -> torch.Tensor:
    img = img.double()
    x = None
    for res in sorted({int(name[1:].split(".")[0]) for name in state if name.startswith("b")}, reverse=True):
        block = part(state, f"b{res}.")
        if "fromrgb.weight" in block:
            y = conv_layer(part(block, "fromrgb."), img)
            x = y if x is None else x + y
        if res == 4:
            break
        if architecture == "skip":
            img = low_pass(pad(img, [1] * 4))[:, :, ::2, ::2]
        shortcut = x
        x = conv_layer(part(block, "conv1."), conv_layer(part(block, "conv0."), x), down=2)
        if architecture == "resnet":
            x = (conv_layer(part(block, "skip."), shortcut, down=2, activate=False) + x) * 0.5**0.5
    if mbstd is not None:
        x = minibatch_std(x, **mbstd)
    x = conv_layer(part(block, "conv."), x)
    x = lrelu(fully_connected(part(block, "fc."), x.flatten(1)))
    x = fully_connected(part(block, "out."), x)
    if "mapping.embed.weight" in state:
        cmap = mapping(part(state, "mapping."), None, c)
        x = (x * cmap).sum(dim=1, keepdim=True) / cmap.shape[1] ** 0.5
    return x
