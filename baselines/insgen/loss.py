"""The loss of InsGen (arXiv 2106.04566, section 3): StyleGAN2's, with instance discrimination of real and fake images.

With a1, a2 independent draws of augmentation, f the features of D, f' those of its momentum copy, DH and GH the heads:

- D, real images: q = DH(f(a1(x))), k = DH'(f'(a2(x)))
- D, generated ones: q = GH(f(a1(G(z)))), k = GH'(f'(a2(G(z + noise))))
- G: q = GH(f(a1(G(z)))), k = GH'(f'(a2(G(z))))

Each is compared with the queue of its head. q and the logits come from the same pass of D, so that a1 is the draw of
the adversarial loss.
"""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import torch
from torch.nn.functional import normalize

from baselines.insgen.discriminator import InsGenOutput
from baselines.insgen.head import ContrastiveHead, info_nce
from baselines.settings import InsGenSettings
from torch_utils import distributed, misc, training_stats
from training.extensions import Logits
from training.loss import StyleGAN2Loss


class InsGenLoss(StyleGAN2Loss):
    """StyleGAN2's loss with instance discrimination.

    Args:
        args: As for `StyleGAN2Loss`; D is a `baselines.insgen.discriminator.InsGenDiscriminator`, or its DDP wrapper.
        final_p: The probability of ``augment_pipe`` grows linearly to it; None leaves it alone.
        final_p_iteration: The iteration after which it stays there.
        kwargs: Arguments of `InsGenSettings` and of `StyleGAN2Loss`.
    """

    def __init__(self, *args: Any, final_p: float | None = None, final_p_iteration: int = 1, **kwargs: Any) -> None:
        self.final_p, self.final_p_iteration = final_p, final_p_iteration
        own = {setting.name for setting in fields(InsGenSettings)} & kwargs.keys()
        self.settings = InsGenSettings(**{name: kwargs.pop(name) for name in own})
        super().__init__(*args, **kwargs)
        D = distributed.unwrapped(self.D)
        width = D.b4.fc.weight.shape[0]
        sizes = {"DHead": self.settings.rqs, "GHead": self.settings.fqs}
        self.D_ema = copy.deepcopy(D).requires_grad_(False)
        self.head_of = {name: ContrastiveHead(width, int(size or 1)).to(self.device) for name, size in sizes.items()}
        self._online = {name: distributed.parallel(head.online, self.device) for name, head in self.head_of.items()}

    def networks(self) -> dict[str, torch.nn.Module]:
        """Return the heads and the momentum copy of D, under the names that InsGen's own snapshots use."""
        return {**self.head_of, "D_ema": self.D_ema}

    def trained_with(self, network: str) -> list[torch.nn.Module]:
        """Return the online heads for D."""
        return [head.online for head in self.head_of.values()] if network == "D" else []

    def begin_iteration(self) -> None:
        """Move the momentum copies."""
        for head in self.head_of.values():
            head.move_momentum(self.settings.insgen_momentum)
        online = distributed.unwrapped(self.D)
        weight = 1 - self.settings.insgen_momentum
        torch._foreach_lerp_(list(self.D_ema.parameters()), [p.detach() for p in online.parameters()], weight)

    def end_iteration(self, batch_idx: int) -> None:
        """Let p grow; it is a buffer of the pipe, which checkpoints hold."""
        if self.final_p is not None and self.augment_pipe is not None:
            self.augment_pipe.get_buffer("p").fill_(self.final_p * min(batch_idx / self.final_p_iteration, 1))

    def run_D(self, img: torch.Tensor, c: torch.Tensor, sync: bool) -> InsGenOutput:
        """Discriminator output for augmented images."""
        with misc.ddp_sync(self.D, sync):
            result: InsGenOutput = self.D(self.augment(img), c, with_features=True)
        return result

    def heads(self, output: InsGenOutput) -> Logits:
        """Return the logits in an output of D."""
        return {1: output.logits}

    def additional_terms(
        self, kind: str, output: InsGenOutput, img: torch.Tensor, c: torch.Tensor, z: torch.Tensor | None = None
    ) -> torch.Tensor | float:
        """Add instance discrimination to a main term."""
        others = super().additional_terms(kind, output, img, c, z)
        weights = {
            "real": self.settings.insgen_real_weight,
            "fake": self.settings.insgen_fake_weight,
            "generated": self.settings.insgen_g_weight,
        }
        if weights[kind] == 0:
            return others
        name = "DHead" if kind == "real" else "GHead"
        with torch.no_grad():
            if kind == "fake":
                assert z is not None
                img, _ws = self.run_G(z + self.settings.insgen_noise * torch.randn_like(z), c, sync=False)
            other_view = self.D_ema(self.augment(img), c, with_features=True).features
            keys = self.head_of[name].keys(other_view)
        with misc.ddp_sync(self._online[name], sync=kind != "generated"):
            queries = normalize(self._online[name](output.features))
        # A copy, because the queue changes before the backward pass.
        loss = info_nce(queries, keys, self.head_of[name].queue.clone(), self.settings.insgen_temp)
        training_stats.report(f"InsGen/{kind}", loss)
        if kind == "real":
            self._enqueue(name, keys)
        elif kind == "fake":  # the authors' code takes these features rather than those of the keys
            self._enqueue(name, self.head_of[name].keys(output.features.detach()))
        return others + loss * weights[kind]

    def _enqueue(self, name: str, keys: torch.Tensor) -> None:
        self.head_of[name].enqueue(torch.cat(distributed.gather_tensors(keys)))
