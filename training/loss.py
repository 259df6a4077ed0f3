"""Losses of StyleGAN2 and the order in which they are accumulated.

Non-saturating logistic loss (arXiv 1406.2661), R1 (arXiv 1801.04406) and path-length regularization (arXiv 1912.04958,
section 3.2). Terms are pure functions that return one value per image; `StyleGAN2Loss` orders the forward and backward
passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from torch_utils import misc, training_stats
from torch_utils.ops import conv2d_gradfix
from training.extensions import Extension, Logits, Participant
from training.round import Round

PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return -log sigmoid of the logits of generated images, element-wise."""
    return softplus(-fake_logits)


def discriminator_loss_fake(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return -log(1 - sigmoid) of the logits of generated images, element-wise."""
    return softplus(fake_logits)


def discriminator_loss_real(real_logits: torch.Tensor) -> torch.Tensor:
    """Return -log sigmoid of the logits of real images, element-wise."""
    return softplus(-real_logits)


def r1_penalty(scores: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """Return the squared norm of d scores / d img per image, ``[N]``; ``img`` [N, C, H, W] must require gradients."""
    with conv2d_gradfix.no_weight_gradients():
        (grad,) = torch.autograd.grad(scores.sum(), img, create_graph=True)
    return grad.square().sum(dim=[1, 2, 3])


def path_lengths(img: torch.Tensor, ws: torch.Tensor) -> torch.Tensor:
    """Return how far the image moves per step of w: |J_w^T y|, y ~ N(0, 1) / sqrt(H W), averaged over layers, ``[N]``.

    Args:
        img: Generated images ``[N, C, H, W]``.
        ws: Their latents ``[N, L, w_dim]``, part of the graph.
    """
    noise = torch.randn_like(img) / np.sqrt(img.shape[2] * img.shape[3])
    with conv2d_gradfix.no_weight_gradients():
        (grad,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
    return grad.square().sum(dim=2).mean(dim=1).sqrt()


class Loss(Participant):
    """Interface of a loss for the training loop, and of its parts for extensions."""

    D: torch.nn.Module
    """Discriminator, or its DDP wrapper."""

    extensions: Sequence[Extension] = ()
    """Extensions of this loss; `training.run.construction.construct_loss` sets them."""

    augment_pipe: torch.nn.Module | None = None
    """Augmentation of D's input; None for none."""

    def accumulate_gradients(
        self,
        phase: str,
        real_img: torch.Tensor,
        real_c: torch.Tensor,
        gen_z: torch.Tensor,
        gen_c: torch.Tensor,
        sync: bool,
        gain: float,
    ) -> None:
        """Add the gradients of one phase for one round of images.

        Args:
            phase: One of `PHASES`.
            real_img: ``[N, C, H, W]`` in [-1, 1], after random flips by the dataset, before augmentation.
            real_c: Their labels ``[N, c_dim]``.
            gen_z: Latents ``[N, z_dim]``.
            gen_c: Labels to generate ``[N, c_dim]``.
            sync: Average gradients over processes: True in the last round of a batch.
            gain: Scale of every term: the interval of a lazily applied phase.

        Raises:
            ValueError: ``phase`` is not one of `PHASES`.
        """
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}")
        train = self.train_generator if phase.startswith("G") else self.train_discriminator
        main, reg = phase.endswith(("main", "both")), phase.endswith(("reg", "both"))
        train(Round(real_img, real_c, gen_z, gen_c), sync, gain, main, reg)

    def train_generator(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """Add the gradients of G's main term if ``main``, and of its regularization if ``reg``."""
        raise NotImplementedError

    def train_discriminator(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """Add the gradients of D's main terms if ``main``, and of its regularization if ``reg``."""
        raise NotImplementedError

    def augment(self, img: torch.Tensor) -> torch.Tensor:
        """Augment images ``[N, C, H, W]`` for D, if there is an augmentation."""
        return img if self.augment_pipe is None else self.augment_pipe(img)

    def run_D(self, img: torch.Tensor, c: torch.Tensor, sync: bool) -> Any:
        """Return the output of D for augmented images: logits ``[N, 1]``, or what `heads` finds them in."""
        img = self.augment(img)
        with misc.ddp_sync(self.D, sync):
            return self.D(img, c)

    def heads(self, output: Any) -> Logits:
        """Return the logits, with their graph, in what D returned for N images: those of StyleGAN2 are all of it."""
        return {1: output}

    def mean_over_heads(self, terms: Logits) -> torch.Tensor:
        """Average a term of each logit over the heads of D, as the adversarial loss does: [N]."""
        return terms[1][:, 0]

    def penalized_score(self, output: Any) -> torch.Tensor:
        """Return the score [N, 1] whose gradient by the images R1 penalizes.

        Args:
            output: What D returned for images that require gradients, as for `heads`.
        """
        return self.heads(output)[1]

    def zero_of(self, output: Any) -> torch.Tensor:
        """Return zeros [N] that depend on all of D: DDP expects a gradient for each parameter."""
        return self.heads(output)[1][:, 0] * 0

    def report_output(self, kind: str, output: Any) -> None:
        """Report the logits of 'real' or 'fake' images in an output of D."""
        self.report_heads(kind, self.heads(output))

    def report_heads(self, kind: str, logits: Logits) -> None:
        """Report logits of 'real' or 'fake' images, and their signs; those of real ones control ADA."""
        training_stats.report(f"Loss/scores/{kind}", logits[1])
        training_stats.report(f"Loss/signs/{kind}", logits[1].sign())

    def replacement(self) -> Extension | None:
        """Return the extension that replaces the adversarial loss, if there is one."""
        return next((extension for extension in self.extensions if extension.replaces_adversarial_loss), None)

    def additional_terms(
        self, kind: str, output: Any, img: torch.Tensor, c: torch.Tensor, z: torch.Tensor | None = None
    ) -> torch.Tensor | float:
        """Return what the loss of a subclass and the extensions add to a main term, per image, [N].

        Args:
            kind: 'real' or 'fake' while D is trained, 'generated' while G is.
            output: D's output for the augmented images.
            img: The images before augmentation [N, C, H, W]; with their graph if they are 'generated'.
            c: Their labels.
            z: Their latents; None for real ones.
        """
        if kind == "generated":
            return 0.0
        terms = [each.discriminator_term(kind, self.heads(output), img.detach()) for each in self.extensions]
        return sum((term for term in terms if term is not None), 0.0)


class StyleGAN2Loss(Loss):
    """The loss of StyleGAN2-ADA; names and formulas are those of docs/compatibility.md.

    Args:
        device: Where the networks are.
        G_mapping: Mapping network, or its DDP wrapper.
        G_synthesis: Synthesis network, or its DDP wrapper.
        D: Discriminator, or its DDP wrapper.
        augment_pipe: Applied to the input of D; None for no augmentation.
        style_mixing_prob: Probability of a second z for the later layers of a batch.
        r1_gamma: Weight of R1.
        pl_batch_shrink: Path lengths are measured on the batch divided by this.
        pl_decay: Weight of the newest batch in the running mean of path lengths.
        pl_weight: Weight of the path-length penalty.
    """

    def __init__(
        self,
        device: torch.device,
        G_mapping: torch.nn.Module,
        G_synthesis: torch.nn.Module,
        D: torch.nn.Module,
        augment_pipe: torch.nn.Module | None = None,
        style_mixing_prob: float = 0.9,
        r1_gamma: float = 10,
        pl_batch_shrink: int = 2,
        pl_decay: float = 0.01,
        pl_weight: float = 2,
    ) -> None:
        self.device, self.augment_pipe = device, augment_pipe
        self.G_mapping, self.G_synthesis, self.D = G_mapping, G_synthesis, D
        self.r1_gamma, self.style_mixing_prob = r1_gamma, style_mixing_prob
        self.pl_weight, self.pl_decay, self.pl_batch_shrink = pl_weight, pl_decay, pl_batch_shrink
        self.pl_mean = torch.zeros([], device=device)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the running mean of path lengths."""
        return {"pl_mean": self.pl_mean}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.pl_mean.copy_(state["pl_mean"])

    def run_G(self, z: torch.Tensor, c: torch.Tensor, sync: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Generate images ``[N, C, H, W]`` and ws ``[N, L, w_dim]`` from latents and labels, with style mixing."""
        with misc.ddp_sync(self.G_mapping, sync):
            ws = self.G_mapping(z, c)
            if self.style_mixing_prob > 0:
                ws = self._mix_styles(ws, z, c)
        with misc.ddp_sync(self.G_synthesis, sync):
            img = self.G_synthesis(ws)
        return img, ws

    def _mix_styles(self, ws: torch.Tensor, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        # Drawn on the CPU, so that the accelerator is not waited for.
        if torch.rand([]) >= self.style_mixing_prob or ws.shape[1] < 2:
            return ws
        cutoff = int(torch.randint(1, ws.shape[1], []))
        other = self.G_mapping(torch.randn_like(z), c, skip_w_avg_update=True)
        return torch.cat([ws[:, :cutoff], other[:, cutoff:]], dim=1)

    def train_generator(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """As in `Loss`; a path-length penalty whose weight is 0 costs nothing."""
        reg = reg and self.pl_weight != 0
        replacement = self.replacement()
        if main and replacement is not None:
            replacement.accumulate_G(inputs, sync and not reg, gain)
        elif main:
            self._generator_main(inputs, sync and not reg, gain)
        if reg:
            self._generator_reg(inputs, sync, gain)

    def train_discriminator(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """As in `Loss`; R1 whose weight is 0 costs nothing."""
        reg = reg and self.r1_gamma != 0
        replacement = self.replacement()
        if replacement is not None:
            replacement.accumulate_D(inputs, sync, gain, main, reg)
        elif main or reg:
            # These gradients are averaged over processes together with those of the real images.
            fake_loss = self._discriminator_fake(inputs, gain) if main else None
            self._discriminator_real(inputs, sync, gain, fake_loss, reg)

    def _generator_main(self, inputs: Round, sync: bool, gain: float) -> None:
        img, _ws = self.run_G(inputs.gen_z, inputs.gen_c, sync)
        output = self.run_D(img, inputs.gen_c, sync=False)
        self.report_output("fake", output)
        loss = generator_loss(self.heads(output)[1])
        training_stats.report("Loss/G/loss", loss)
        backward(loss[:, 0] + self.additional_terms("generated", output, img, inputs.gen_c, inputs.gen_z), gain)

    def _generator_reg(self, inputs: Round, sync: bool, gain: float) -> None:
        num = max(inputs.gen_z.shape[0] // self.pl_batch_shrink, 1)
        img, ws = self.run_G(inputs.gen_z[:num], inputs.gen_c[:num], sync)
        lengths = path_lengths(img, ws)
        mean = self.pl_mean.lerp(lengths.mean(), self.pl_decay)
        self.pl_mean.copy_(mean.detach())
        penalty = (lengths - mean).square()
        training_stats.report("Loss/pl_penalty", penalty)
        loss = penalty * self.pl_weight
        training_stats.report("Loss/G/reg", loss)
        # The penalty does not depend on the last biases, but DDP needs a gradient for each parameter, if only zero.
        backward(loss + img[:, 0, 0, 0] * 0, gain)

    def _discriminator_fake(self, inputs: Round, gain: float) -> torch.Tensor:
        with torch.no_grad():
            img, _ws = self.run_G(inputs.gen_z, inputs.gen_c, sync=False)
        output = self.run_D(img, inputs.gen_c, sync=False)
        self.report_output("fake", output)
        loss = discriminator_loss_fake(self.heads(output)[1])
        backward(loss[:, 0] + self.additional_terms("fake", output, img, inputs.gen_c, inputs.gen_z), gain)
        return loss.detach()

    def _discriminator_real(
        self, inputs: Round, sync: bool, gain: float, fake_loss: torch.Tensor | None, reg: bool
    ) -> None:
        """Main term if ``fake_loss`` (for the statistics) is given, R1 if ``reg``; one pass for both."""
        img = inputs.real_img.detach().requires_grad_(reg)
        output = self.run_D(img, inputs.real_c, sync)
        self.report_output("real", output)
        loss = self.zero_of(output)  # R1 does not depend on the last bias
        if fake_loss is not None:
            main = discriminator_loss_real(self.heads(output)[1])
            training_stats.report("Loss/D/loss", fake_loss + main.detach())
            loss = loss + main[:, 0] + self.additional_terms("real", output, img, inputs.real_c)
        if reg:
            penalty = r1_penalty(self.penalized_score(output), img)
            training_stats.report("Loss/r1_penalty", penalty)
            regularizer = penalty * (self.r1_gamma / 2)
            training_stats.report("Loss/D/reg", regularizer)
            loss = loss + regularizer
        backward(loss, gain)


def backward(loss: torch.Tensor, gain: float) -> None:
    """Accumulate the gradients of the mean of per-image values times ``gain``."""
    (loss.mean() * gain).backward()
