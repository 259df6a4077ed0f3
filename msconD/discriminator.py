"""Discriminator with logits and embeddings for the image as a whole and for the cells of its feature maps.

Lee et al., "Multi-scale Contrastive Learning for Complex Scene Generation" (WACV 2023), supplement, table 1: branches
of 1x1 convolutions on feature maps of the StyleGAN2 discriminator. A branch is a shared residual block followed by a
discriminator head (one logit per cell) and a projection head (one embedding per cell). The global logit and embedding
come from the last hidden layer. Where the table is silent or ambiguous, arguments choose between the readings
(docs/method.md).

Snapshots carry the source of this file and execute it on its own, possibly in the official code: it must stay a single
file that imports only what the official code has too.

Shapes: N images, C channels of a feature map, h its height and width, E = proj_dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from torch_utils import persistence
from training.networks import Conv2dLayer, Discriminator, FullyConnectedLayer

SHARED_BLOCKS = ("resblk", "stack", "chain")
EPILOGUES = ("stylegan2", "table")


class ScaleOutputs(NamedTuple):
    """Outputs of `MsConDDiscriminator` at each scale; the keys are the heights of the maps, in ascending order.

    Attributes:
        logits: float32 [N, 1] at height 1, [N, 1, h, h] above.
        proj: float32 [N, E] at height 1, [N, E, h, h] above; empty without projection heads.
        features: Input of the branches, [N, C, h, h] at heights above 1, in the backbone's precision.
    """

    logits: dict[int, torch.Tensor]
    proj: dict[int, torch.Tensor]
    features: dict[int, torch.Tensor]


def _condition(out: torch.Tensor, cmap: torch.Tensor | None) -> torch.Tensor:
    """Project [N, cmap_dim, ...] onto the mapped label [N, cmap_dim]: [N, 1, ...] (arXiv:1802.05637).

    Without a label, ``out`` is [N, 1, ...] already.
    """
    if cmap is None:
        return out
    weights = cmap.reshape(cmap.shape + (1,) * (out.ndim - 2))
    return (out * weights).sum(dim=1, keepdim=True) / math.sqrt(cmap.shape[1])


def _one_cell(x: torch.Tensor) -> torch.Tensor:
    """Return one cell of one image, [1, C] or [1, C, 1, 1], without gradient."""
    return (x[:1] if x.ndim == 2 else x[:1, :, :1, :1]).detach()


@persistence.persistent_class
class SharedBlock(torch.nn.Module):
    """Three 1x1 convolutions with residual connections.

    Args:
        channels: C.
        kind: ``resblk`` is StyleGAN2's residual block (two convolutions beside a linear one), ``stack`` adds the
            output of three convolutions to the input, ``chain`` has three residual steps of one convolution.
    """

    weight_settings = ("kind",)  # attributes that change what a weight means, for transfer learning

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        if kind not in SHARED_BLOCKS:
            raise ValueError(f"shared must be one of {', '.join(SHARED_BLOCKS)}, got {kind!r}")
        self.kind = kind
        self.conv0 = Conv2dLayer(channels, channels, kernel_size=1, activation="relu")
        self.conv1 = Conv2dLayer(channels, channels, kernel_size=1, activation="relu")
        if kind == "resblk":
            self.skip = Conv2dLayer(channels, channels, kernel_size=1, bias=False)
        else:
            last_activation = "linear" if kind == "stack" else "relu"
            self.conv2 = Conv2dLayer(channels, channels, kernel_size=1, activation=last_activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [N, C, h, h] to [N, C, h, h], float32."""
        half_power = math.sqrt(0.5)
        if self.kind == "resblk":
            return self.skip(x, gain=half_power) + self.conv1(self.conv0(x), gain=half_power)
        if self.kind == "stack":
            return x + self.conv2(self.conv1(self.conv0(x)))
        for conv in (self.conv0, self.conv1, self.conv2):
            x = x * half_power + conv(x, gain=half_power)
        return x


@persistence.persistent_class
class LocalBranch(torch.nn.Module):
    """Logits and embeddings of the cells of a feature map.

    Args:
        channels: C.
        cmap_dim: Width of the mapped label that the logits depend on, 0 for none.
        proj_dim: E, 0 for no projection head.
        proj_hidden: Width inside the projection head; None is C.
        shared: Kind of `SharedBlock`.
    """

    def __init__(self, channels: int, cmap_dim: int, proj_dim: int, proj_hidden: int | None, shared: str) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        self.shared = SharedBlock(channels, shared)
        self.disc = Conv2dLayer(channels, max(cmap_dim, 1), kernel_size=1)
        if proj_dim > 0:
            hidden = channels if proj_hidden is None else proj_hidden
            self.proj0 = Conv2dLayer(channels, hidden, kernel_size=1, activation="relu")
            self.proj1 = Conv2dLayer(hidden, proj_dim, kernel_size=1)

    def logits(self, x: torch.Tensor, cmap: torch.Tensor | None) -> torch.Tensor:
        """Map the output of the shared block, [N, C, h, h], and mapped labels to logits [N, 1, h, h]."""
        return _condition(self.disc(x), cmap if self.cmap_dim > 0 else None)

    def embeddings(self, x: torch.Tensor) -> torch.Tensor:
        """Map the output of the shared block, [N, C, h, h], to embeddings [N, E, h, h]."""
        return self.proj1(self.proj0(x))


@persistence.persistent_class
class GlobalProjection(torch.nn.Module):
    """Embedding of the image as a whole.

    Args:
        features: Width of the input.
        proj_dim: E.
        proj_hidden: Width of the hidden layer; None is ``features``.
        num_layers: 2, or 1 for a linear map.
    """

    def __init__(self, features: int, proj_dim: int, proj_hidden: int | None, num_layers: int) -> None:
        super().__init__()
        if num_layers not in (1, 2):
            raise ValueError(f"proj1_layers must be 1 or 2, got {num_layers}")
        hidden = features if proj_hidden is None else proj_hidden
        self.num_layers = num_layers
        if num_layers == 2:
            self.fc0 = FullyConnectedLayer(features, hidden, activation="relu")
        self.fc1 = FullyConnectedLayer(hidden if num_layers == 2 else features, proj_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [N, features] to embeddings [N, E], float32."""
        return self.fc1(self.fc0(x) if self.num_layers == 2 else x)


@persistence.persistent_class
class TableEpilogue(torch.nn.Module):
    """Final layers as table 1 lists them, without minibatch standard deviation and 3x3 convolution.

    Args:
        in_channels: Channels of the input.
        cmap_dim: Width of the mapped label, 0 without labels.
    """

    def __init__(self, in_channels: int, cmap_dim: int) -> None:
        super().__init__()
        self.fc = FullyConnectedLayer(in_channels * 4 * 4, in_channels, activation="lrelu")
        self.out = FullyConnectedLayer(in_channels, max(cmap_dim, 1))

    def forward(
        self, x: torch.Tensor, img: torch.Tensor | None, cmap: torch.Tensor | None, force_fp32: bool = False
    ) -> torch.Tensor:
        """Map features [N, in_channels, 4, 4] to logits [N, 1]; the arguments are those of the epilogue it replaces."""
        return _condition(self.out(self.fc(x.to(torch.float32).flatten(1))), cmap)


def _last_hidden_layer(epilogue: Any, x: torch.Tensor, img: torch.Tensor | None, num_batches: int) -> torch.Tensor:
    """Apply the layers of an epilogue before ``out``, [N, C, 4, 4] to [N, C]; its own forward returns only logits."""
    x = x.to(torch.float32)
    if isinstance(epilogue, TableEpilogue):
        return epilogue.fc(x.flatten(1))
    if hasattr(epilogue, "fromrgb"):  # the skip architecture
        x = x + epilogue.fromrgb(img)
    if epilogue.mbstd is not None:
        x = torch.cat([epilogue.mbstd(batch) for batch in x.chunk(num_batches)])
    return epilogue.fc(epilogue.conv(x).flatten(1))


@persistence.persistent_class
class MsConDDiscriminator(Discriminator):
    """StyleGAN2 discriminator with local branches and projection heads.

    Called like its base class it returns only the global logits. With the ``stylegan2`` epilogue these equal those of
    the base class, whose weights can be loaded into it.

    Args:
        c_dim: Width of the labels, 0 without labels.
        img_resolution: Height and width of the image, a power of two.
        img_channels: Color channels.
        scales: Heights of the maps with logits: 1, the image as a whole, and powers of two from 4 to half of
            ``img_resolution``.
        proj_dim: E; 0 for a multi-scale discriminator without projection heads.
        proj_hidden: Hidden width of the projection heads; None is the width of their input.
        proj1_layers: Layers of the global projection head, 2 or 1.
        shared: ``resblk``, ``stack`` or ``chain``, see `SharedBlock`.
        epilogue: ``stylegan2`` keeps the final layers of its discriminator, ``table`` is `TableEpilogue`.
        cond_local: Condition the local logits on the label, too.
        backbone_kwargs: Further arguments of `Discriminator`.

    Raises:
        ValueError: An argument is illegal.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        scales: Sequence[int] = (1, 8, 16),
        proj_dim: int = 256,
        proj_hidden: int | None = None,
        proj1_layers: int = 2,
        shared: str = "resblk",
        epilogue: str = "stylegan2",
        cond_local: bool = True,
        **backbone_kwargs: Any,
    ) -> None:
        super().__init__(c_dim, img_resolution, img_channels, **backbone_kwargs)
        legal = [1] + [2**i for i in range(2, img_resolution.bit_length() - 1)]
        if 1 not in scales or len(set(scales)) < len(scales) or not set(scales) <= set(legal):
            raise ValueError(
                f"scales must be 1 and any of {', '.join(map(str, legal[1:]))} for images of {img_resolution} px, "
                f"got {', '.join(map(str, scales))}"
            )
        if epilogue not in EPILOGUES:
            raise ValueError(f"epilogue must be one of {', '.join(EPILOGUES)}, got {epilogue!r}")
        self.scales = sorted(scales)
        self.proj_dim = proj_dim

        features, out = self.b4.fc.weight.shape[0], self.b4.out.weight.shape[0]
        cmap_dim = out if c_dim > 0 else 0
        if epilogue == "table":
            self.add_module("b4", TableEpilogue(features, cmap_dim))
        if proj_dim > 0:
            self.proj1 = GlobalProjection(features, proj_dim, proj_hidden, proj1_layers)
        for h in self.scales[1:]:
            channels = getattr(self, f"b{2 * h}").conv1.weight.shape[0]
            branch = LocalBranch(channels, cmap_dim if cond_local else 0, proj_dim, proj_hidden, shared)
            setattr(self, f"branch{h}", branch)

    def forward(
        self,
        img: torch.Tensor,
        c: torch.Tensor | None,
        all_scales: bool = False,
        embed: bool = True,
        num_batches: int = 1,
        **block_kwargs: Any,
    ) -> Any:
        """Compute the global logits or, with ``all_scales``, the logits and embeddings of every scale.

        Args:
            img: float32 [N, img_channels, img_resolution, img_resolution] in [-1, 1].
            c: Labels [N, c_dim]; None is fine without labels.
            all_scales: Return the logits and embeddings of every scale instead of the global logits.
            embed: False computes the embedding of one cell per scale only, detached from the backbone: just enough to
                give every parameter a gradient, even if it is zero, as DistributedDataParallel requires.
            num_batches: ``img`` consists of this many batches of the same size; the minibatch standard deviation is
                computed within each of them.
            block_kwargs: Further arguments of the backbone's blocks.

        Returns:
            Global logits, float32 [N, 1], or `ScaleOutputs`.
        """
        if not all_scales:
            return super().forward(img, c, **block_kwargs)

        maps: dict[int, torch.Tensor] = {}
        x: torch.Tensor | None = None
        rest: torch.Tensor | None = img
        for h in [2**i for i in range(self.img_resolution.bit_length() - 2, 1, -1)]:
            x, rest = getattr(self, f"b{2 * h}")(x, rest, **block_kwargs)
            maps[h] = x
        cmap = self.mapping(None, c) if self.c_dim > 0 else None

        outputs = ScaleOutputs({}, {}, {h: maps[h] for h in self.scales[1:]})
        hidden = _last_hidden_layer(self.b4, maps[4], rest, num_batches)
        outputs.logits[1] = _condition(self.b4.out(hidden), cmap)
        if self.proj_dim > 0:
            outputs.proj[1] = self.proj1(hidden if embed else _one_cell(hidden))
        for h, features in outputs.features.items():
            branch = getattr(self, f"branch{h}")
            shared = branch.shared(features.to(torch.float32))
            outputs.logits[h] = branch.logits(shared, cmap)
            if self.proj_dim > 0:
                outputs.proj[h] = branch.embeddings(shared if embed else _one_cell(shared))
        return outputs
