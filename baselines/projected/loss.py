"""The hinge loss of Projected GAN (arXiv 2111.01007), averaged over all logits of all heads, without regularization."""

from __future__ import annotations

import torch
from torch.nn.functional import relu

from torch_utils import distributed, misc, training_stats
from training.extensions import Logits
from training.loss import Loss, backward
from training.round import Round


class ProjectedLoss(Loss):
    """D: mean relu(1 - D(x)) + mean relu(1 + D(G(z))); G: -mean D(G(z)).

    Args:
        device: Where the networks are.
        G_mapping: Mapping network, or its DDP wrapper.
        G_synthesis: Synthesis network, or its DDP wrapper.
        D: `baselines.projected.discriminator.ProjectedDiscriminator`, or its DDP wrapper; the weights of its feature
            network are loaded.
        augment_pipe: Applied to the input of D; None for no augmentation.
    """

    def __init__(
        self,
        device: torch.device,
        G_mapping: torch.nn.Module,
        G_synthesis: torch.nn.Module,
        D: torch.nn.Module,
        augment_pipe: torch.nn.Module | None = None,
    ) -> None:
        self.device, self.augment_pipe = device, augment_pipe
        self.G_mapping, self.G_synthesis, self.D = G_mapping, G_synthesis, D
        distributed.unwrapped(D).features.pyramid.load_pretrained()

    def heads(self, output: torch.Tensor) -> Logits:
        """Return the logits, [N, M]."""
        return {1: output}

    def mean_over_heads(self, terms: Logits) -> torch.Tensor:
        """Average a term of each logit: [N]."""
        return terms[1].mean(dim=1)

    def run_G(
        self, z: torch.Tensor, c: torch.Tensor, sync: bool, is_for_D: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Generate images [N, C, H, W] and ws; the mean of w follows D's phase only, as in the authors' code."""
        with misc.ddp_sync(self.G_mapping, sync):
            ws = self.G_mapping(z, c, skip_w_avg_update=not is_for_D)
        with misc.ddp_sync(self.G_synthesis, sync):
            return self.G_synthesis(ws), ws

    def train_generator(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """As in `Loss`; there is nothing to regularize."""
        if not main:
            return
        img, _ws = self.run_G(inputs.gen_z, inputs.gen_c, sync)
        logits = self.run_D(img, inputs.gen_c, sync=False)
        self.report_output("fake", logits)
        loss = -self.mean_over_heads({1: logits})
        training_stats.report("Loss/G/loss", loss)
        backward(loss + self.additional_terms("generated", logits, img, inputs.gen_c, inputs.gen_z), gain)

    def train_discriminator(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """As in `Loss`; generated and real images pass D separately: batch normalization sees one kind at a time."""
        if not main:
            return
        with torch.no_grad():
            fake_img, _ws = self.run_G(inputs.gen_z, inputs.gen_c, sync=False, is_for_D=True)
        fake = self.run_D(fake_img, inputs.gen_c, sync=False)
        self.report_output("fake", fake)
        fake_loss = self.mean_over_heads({1: relu(1 + fake)})
        backward(fake_loss + self.additional_terms("fake", fake, fake_img, inputs.gen_c, inputs.gen_z), gain)
        real = self.run_D(inputs.real_img, inputs.real_c, sync)
        self.report_output("real", real)
        real_loss = self.mean_over_heads({1: relu(1 - real)})
        training_stats.report("Loss/D/loss", fake_loss.detach() + real_loss)
        backward(real_loss + self.additional_terms("real", real, inputs.real_img, inputs.real_c), gain)
