"""Slicing adversarial network (SAN, arXiv 2301.12811, section 4) for StyleGAN2 and MsConD, with any adversarial loss.

The last layer of D is a linear map h -> <w, h> + b; w = s d with |d| = 1. D's usual loss trains everything but the
direction d, and d is trained to tell the means of real and generated features apart:
-E <d, sg(s h(x))> + E <d, sg(s h(G(z)))>, sg being the value without its gradient. Values do not change, only who
learns from what, so that snapshots are those of any other run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from torch_utils import distributed, training_stats
from training.extensions import Extension, Logits


class SlicingAdversarial(Extension):
    """Routes the gradients of D's last layers while D is trained, and adds the term of their directions.

    Args:
        extended_loss: The loss it extends.
        batch_size: Images per iteration.
        san: True; the flag that switches it on.

    Raises:
        ValueError: D has no last layers of the known kinds.
    """

    def __init__(self, extended_loss: Any, batch_size: int, san: bool) -> None:
        super().__init__(extended_loss, batch_size)
        self.layers = last_layers(distributed.unwrapped(self.loss.D))
        self._scores: dict[int, torch.Tensor] = {}

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Change the last layers while D is trained."""
        with ExitStack() as changed:
            if phase.startswith("D"):
                for height, layer in self.layers.items():
                    changed.enter_context(self._separated(height, layer))
            yield
        self._scores.clear()

    def discriminator_term(self, kind: str, logits: Logits, img: torch.Tensor) -> torch.Tensor:
        """Return -<d, sg(s h)> of real images or <d, sg(s h)> of generated ones, averaged over heads, [N]."""
        score: torch.Tensor = self.loss.mean_over_heads(self._scores)
        training_stats.report(f"SAN/{kind}", score)
        return -score if kind == "real" else score

    @contextmanager
    def _separated(self, height: int, layer: torch.nn.Module) -> Iterator[None]:
        """Let ``layer`` learn its direction apart from the rest until the context ends."""

        def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            norm = weight.norm()
            direction = weight / norm
            with _parameters(layer, weight=direction * norm.detach(), bias=torch.zeros_like(bias)):
                self._scores[height] = type(layer).forward(layer, x.detach(), *args, **kwargs)
            with _parameters(layer, weight=direction.detach() * norm):
                return type(layer).forward(layer, x, *args, **kwargs)

        layer.forward = forward
        try:
            yield
        finally:
            del layer.forward


def last_layers(D: torch.nn.Module) -> dict[int, torch.nn.Module]:
    """Return the layers of a StyleGAN2 or MsConD discriminator that compute logits, by height of their maps.

    Raises:
        ValueError: It is another discriminator.
    """
    heads = {1: "b4.out", **{height: f"branch{height}.disc" for height in getattr(D, "scales", [])[1:]}}
    try:
        return {height: D.get_submodule(name) for height, name in heads.items()}
    except AttributeError:
        raise ValueError(f"--san=1 does not know the last layers of {type(D).__name__}") from None


@contextmanager
def _parameters(layer: torch.nn.Module, **tensors: torch.Tensor) -> Iterator[None]:
    """Let a layer compute with other tensors than its parameters."""
    kept = {name: layer._parameters[name] for name in tensors}
    layer._parameters.update(tensors)  # type: ignore[arg-type]
    try:
        yield
    finally:
        layer._parameters.update(kept)
