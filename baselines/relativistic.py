"""The regularized relativistic loss of R3GAN (arXiv 2501.05441, section 2) for any network and any number of heads.

D is trained on pairs of a real and a generated image with the same label, f(t) = log(1 + e^-t) of the difference of
their logits, and both gradients are penalized: R1 on real images and R2 on generated ones, with the same weight, in
every iteration. Images are generated with the labels of the real ones: ``gen_c`` is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import softplus

from torch_utils import training_stats
from training.extensions import Extension, Logits
from training.loss import backward, r1_penalty
from training.round import Round


class RelativisticLoss(Extension):
    """Replaces the adversarial loss and R1.

    Args:
        extended_loss: The loss it extends; its ``r1_gamma`` is the weight of R1 and R2.
        batch_size: Images per iteration.
        loss: 'relativistic'; the flag that switches it on.
    """

    replaces_adversarial_loss = True

    def __init__(self, extended_loss: Any, batch_size: int, loss: str) -> None:
        super().__init__(extended_loss, batch_size)

    def accumulate_G(self, inputs: Round, sync: bool, gain: float) -> None:
        """Accumulate the gradients of mean f(D(G(z)) - D(x))."""
        c = inputs.real_c
        img, _ws = self.loss.run_G(inputs.gen_z, c, sync)
        fake = self.loss.run_D(img, c, sync=False)
        with torch.no_grad():
            real = self.loss.run_D(inputs.real_img, c, sync=False)
        self._report({"fake": fake}, middle=self._middle(real, fake))
        loss = self._paired(fake, real)
        training_stats.report("Loss/G/loss", loss)
        backward(loss + self.loss.additional_terms("generated", fake, img, c, inputs.gen_z), gain)

    def accumulate_D(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        """Accumulate the gradients of mean f(D(x) - D(G(z))) + gamma / 2 (R1 + R2).

        Raises:
            ValueError: Gradients are penalized in a phase of their own.
        """
        if not main:
            raise ValueError("the relativistic loss penalizes gradients in every iteration; set D_reg_interval to None")
        c = inputs.real_c
        with torch.no_grad():
            fake_img, _ws = self.loss.run_G(inputs.gen_z, c, sync=False)
        fake_img, real_img = fake_img.requires_grad_(reg), inputs.real_img.detach().requires_grad_(reg)
        fake = self.loss.run_D(fake_img, c, sync=False)
        fake_terms = self.loss.additional_terms("fake", fake, fake_img, c, inputs.gen_z)
        real = self.loss.run_D(real_img, c, sync)
        real_terms = self.loss.additional_terms("real", real, real_img, c)
        self._report({"fake": fake, "real": real}, middle=self._middle(real, fake))
        paired = self._paired(real, fake)
        training_stats.report("Loss/D/loss", paired)
        loss = self.loss.zero_of(real) + self.loss.zero_of(fake) + paired + real_terms + fake_terms
        if reg:
            penalties = [self._penalty("r1", real, real_img), self._penalty("r2", fake, fake_img)]
            regularizer = torch.stack(penalties).sum(dim=0) * (self.loss.r1_gamma / 2)
            training_stats.report("Loss/D/reg", regularizer)
            loss = loss + regularizer
        backward(loss, gain)

    def _middle(self, real: Any, fake: Any) -> Logits:
        """Return the mean logit of each head."""
        first, second = self.loss.heads(real), self.loss.heads(fake)
        return {height: (first[height].detach().mean() + second[height].detach().mean()) / 2 for height in first}

    def _report(self, outputs: Mapping[str, Any], middle: Logits) -> None:
        """Report logits by their distance from the middle.

        The loss leaves a constant undetermined, which the signs that control augmentation must not depend on.
        """
        for kind, output in outputs.items():
            heads = self.loss.heads(output)
            self.loss.report_heads(kind, {height: heads[height] - middle[height] for height in heads})

    def _paired(self, better: Any, worse: Any) -> torch.Tensor:
        """Return f(better - worse) per image, [N], averaged over heads; i is paired with i."""
        first, second = self.loss.heads(better), self.loss.heads(worse)
        differences: Logits = {height: softplus(second[height] - first[height]) for height in first}
        return self.loss.mean_over_heads(differences)

    def _penalty(self, name: str, output: Any, img: torch.Tensor) -> torch.Tensor:
        penalty = r1_penalty(self.loss.penalized_score(output), img)
        training_stats.report(f"Loss/{name}_penalty", penalty)
        return penalty
