"""What methods add to training: networks of their own, other inputs, further terms (docs/extending.md).

The training loop treats its loss and all extensions alike, as `Participant`: it asks for their networks, calls them
before and after each iteration, and saves their state. An `Extension` goes with any loss and changes what the loss
does; ``train.py`` constructs those whose flags were given (`training.run.registry.ExtensionOption`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from training.round import Round

Logits = Mapping[int, torch.Tensor]
"""Logits of D by height of their map: [N, 1] at height 1, [N, 1, h, h] above.

StyleGAN2's D has height 1 only, Projected GAN's has all its M logits as [N, M] there.
"""


class Participant:
    """Takes part in training; every hook may be left as it is."""

    def networks(self) -> dict[str, torch.nn.Module]:
        """Return networks other than G and D by their names in snapshots and checkpoints; the same ones every time.

        They are broadcast from rank 0, saved, and restored. Those that are not trained stay as the participant keeps
        them, on each process alike.
        """
        return {}

    def trained_with(self, network: str) -> list[torch.nn.Module]:
        """Return the `networks` that the optimizer of ``network``, 'G' or 'D', trains too."""
        return []

    def begin_iteration(self) -> None:
        """Called before the phases of each iteration, for example to update a moving average."""

    def end_iteration(self, batch_idx: int) -> None:
        """Called after the phases of iteration ``batch_idx``, counted from 1."""

    def state_dict(self) -> dict[str, Any]:
        """Return what exact continuation must restore on each process, apart from `networks`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class Extension(Participant):
    """Changes what a loss does. A subclass takes its settings as further arguments.

    Args:
        extended_loss: A `training.loss.Loss`; that of StyleGAN2 has ``G_mapping``, ``G_synthesis``, ``D``, ``device``.
        batch_size: Images per iteration, over all processes.
    """

    replaces_adversarial_loss = False
    """Whether `accumulate_G` and `accumulate_D` replace the adversarial terms and R1 of the loss."""

    def __init__(self, extended_loss: Any, batch_size: int) -> None:
        self.loss = extended_loss
        self.batch_size = batch_size

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Surrounds the rounds of a phase (one of `training.loss.PHASES`)."""
        yield

    def replace_real(self, img: torch.Tensor) -> torch.Tensor:
        """Return the images that D is shown as the real ones [N, C, H, W] of a round, before augmentation."""
        return img

    def discriminator_term(self, kind: str, logits: Logits, img: torch.Tensor) -> torch.Tensor | None:
        """Return a term of D's main loss, or None.

        Args:
            kind: 'real' or 'fake'.
            logits: D's logits for the augmented images, with their graph.
            img: The images before augmentation [N, C, H, W], without gradients.

        Returns:
            One value per image, [N], with its weight. The loss averages it over images and scales it by its gain, as
            it does its own terms. `training.loss.Loss.mean_over_heads` makes [N] of a term of each logit.
        """
        return None

    def accumulate_G(self, inputs: Round, sync: bool, gain: float) -> None:
        """Accumulate the gradients of G's main term; arguments as in `training.loss.Loss.accumulate_gradients`."""
        raise NotImplementedError

    def accumulate_D(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """Accumulate the gradients of D's main terms if ``main``, and of its regularization if ``reg``."""
        raise NotImplementedError
