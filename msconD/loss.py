"""The loss of MsConD: StyleGAN2's with adversarial terms at every scale, and a contrastive loss on two random views.

It uses only those parts of `training.loss.StyleGAN2Loss` that the official class has too. The contrastive loss of two
views has a backward pass of its own, before that of the real images: it adds no more memory than the graph of one pair
of views, and under DistributedDataParallel its exchange of embeddings never overlaps with the averaging of gradients.
With ``con_views=real`` the real images themselves, as augmented for the adversarial loss, are one of the views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch

from msconD import adversarial, contrastive
from msconD.gather import num_processes
from msconD.settings import LossSettings
from msconD.views import ViewSampler, identity_thetas
from torch_utils import misc, training_stats
from torch_utils.ops import conv2d_gradfix
from training.loss import StyleGAN2Loss

# As in `training.loss`, but the official module has no such name.
PHASES = ("Gmain", "Greg", "Gboth", "Dmain", "Dreg", "Dboth")


class Round(NamedTuple):
    """Float32 inputs of one pass, as in `training.round`, which the official code lacks."""

    real_img: torch.Tensor
    """Real images [N, C, H, W] in [-1, 1], before augmentation."""
    real_c: torch.Tensor
    """Their labels [N, c_dim]."""
    gen_z: torch.Tensor
    """Latents [N, z_dim]."""
    gen_c: torch.Tensor
    """Labels of the images to generate [N, c_dim]."""


EmbeddedView = tuple[torch.Tensor, contrastive.Embeddings]
"""Geometry of a view of each image, [N, 2, 3], and its embeddings."""


class MsConDLoss(StyleGAN2Loss):
    """Multi-scale adversarial loss with a contrastive loss as auxiliary task; a drop-in for `StyleGAN2Loss`.

    Args:
        device: Where the networks are.
        G_mapping: Mapping network, or its DDP wrapper.
        G_synthesis: Synthesis network, or its DDP wrapper.
        D: `msconD.discriminator.MsConDDiscriminator`, or its DDP wrapper.
        augment_pipe: Augments the images of the adversarial loss; with ``con_views=real`` the views are taken from
            these, else from the images as they are. None for no augmentation.
        args: Further arguments of `StyleGAN2Loss` by position.
        kwargs: Arguments of `LossSettings` and of `StyleGAN2Loss`.

    Raises:
        ValueError: A setting is illegal or does not match D.
    """

    def __init__(
        self,
        device: torch.device,
        G_mapping: torch.nn.Module,
        G_synthesis: torch.nn.Module,
        D: torch.nn.Module,
        augment_pipe: torch.nn.Module | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        own = {setting.name for setting in fields(LossSettings)} & kwargs.keys()
        self.settings = LossSettings(**{name: kwargs.pop(name) for name in own})
        super().__init__(device, G_mapping, G_synthesis, D, augment_pipe, *args, **kwargs)
        unwrapped: Any = getattr(D, "module", D)
        if not hasattr(unwrapped, "scales"):
            raise ValueError(f"D must be a MsConDDiscriminator, got a {type(unwrapped).__name__}")
        self.adv_weights = adversarial.scale_weights(unwrapped.scales, self.settings.adv_weights)
        self.con_scale_weights = adversarial.scale_weights(unwrapped.scales, self.settings.con_scale_weights)
        # Real images and batches so far; they stay on the CPU.
        self.con_nimg, self.con_batches = torch.zeros([], dtype=torch.int64), torch.zeros([], dtype=torch.int64)
        self.views: ViewSampler | None = None
        if max(self.settings.con_weight, self.settings.con_fake_weight, self.settings.con_g_weight) > 0:
            if unwrapped.proj_dim == 0:
                raise ValueError("contrastive learning needs projection heads, but D has proj_dim 0")
            self.views = ViewSampler(self.settings, device)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors that exact continuation must restore."""
        return {**super().state_dict(), "con_nimg": self.con_nimg, "con_batches": self.con_batches}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.con_nimg.copy_(state["con_nimg"])
        self.con_batches.copy_(state["con_batches"])

    def run_D(self, img: torch.Tensor, c: torch.Tensor, sync: bool) -> Any:
        """Run D on augmented images: `msconD.discriminator.ScaleOutputs` without usable embeddings."""
        return self._discriminate(self._augment(img), c, sync, embed=False)

    def _augment(self, img: torch.Tensor) -> torch.Tensor:
        return img if self.augment_pipe is None else self.augment_pipe(img)

    def _discriminate(self, img: torch.Tensor, c: torch.Tensor, sync: bool, **options: Any) -> Any:
        with misc.ddp_sync(self.D, sync):
            return self.D(img, c, all_scales=True, **options)

    # What extensions ask of a loss. StyleGAN2-ADA's own loss knows none, so they are optional here.
    extensions: Sequence[Any] = ()

    def replacement(self) -> Any:
        """Return the extension that replaces the adversarial loss, if there is one."""
        return super().replacement() if self.extensions else None

    def heads(self, output: Any) -> adversarial.PerScale:
        """Return the logits by height of their map."""
        maps: adversarial.PerScale = output.logits
        return maps

    def mean_over_heads(self, terms: adversarial.PerScale) -> torch.Tensor:
        """Average a term of each logit as the adversarial loss does: [N]."""
        return adversarial.weighted_sum(adversarial.scale_means(terms, lambda x: x), self.adv_weights)[:, 0]

    def penalized_score(self, output: Any) -> torch.Tensor:
        """Return the score [N, 1] whose gradient R1 penalizes."""
        return adversarial.r1_score(output.logits, self.adv_weights, self.settings.r1_mode)

    def zero_of(self, output: Any) -> torch.Tensor:
        """Return a zero that depends on all outputs: DDP expects a gradient for each parameter of D."""
        return torch.stack([x.sum() for maps in (output.logits, output.proj) for x in maps.values()]).sum() * 0

    def report_heads(self, kind: str, logits: adversarial.PerScale) -> None:
        """Report the logits of all scales of 'real' or 'fake' images, and those signs that ADA goes by."""
        signs = {h: x.sign() for h, x in logits.items()}
        ada_signs = signs[1]
        if self.settings.ada_scale == "mean":
            ada_signs = adversarial.weighted_sum(adversarial.scale_means(signs, lambda x: x), self.adv_weights)
        training_stats.report(f"Loss/scores/{kind}", logits[1])
        training_stats.report(f"Loss/signs/{kind}", ada_signs)
        for h, x in logits.items():
            training_stats.report(f"Loss/scores/{kind}_h{h}", x)
            training_stats.report(f"Loss/signs/{kind}_h{h}", signs[h])
            if h > 1:  # unlike the deviation of the scores, without the deviation between images
                training_stats.report(f"Loss/spatial_std/{kind}_h{h}", x.detach().flatten(1).std(dim=1))

    def additional_terms(
        self, kind: str, output: Any, img: torch.Tensor, c: torch.Tensor, z: torch.Tensor | None = None
    ) -> torch.Tensor | float:
        """Return the contrastive loss of images that train G, and the terms of extensions for D."""
        if kind == "generated":
            weight = self._weight_now(self.settings.con_g_weight)
            return self._contrast(img, c, "ConG") * weight if weight > 0 else 0.0
        return super().additional_terms(kind, output, img, c, z) if self.extensions else 0.0

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
        """As in `StyleGAN2Loss`.

        Raises:
            ValueError: ``phase`` is not one of the six.
        """
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}")
        main, reg = phase.endswith(("main", "both")), phase.endswith(("reg", "both"))
        run_phase = self._generator_phase if phase.startswith("G") else self._discriminator_phase
        run_phase(Round(real_img, real_c, gen_z, gen_c), sync, gain, main, reg)

    def _generator_phase(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        reg = reg and self.pl_weight != 0
        replacement = self.replacement()
        if main and replacement is not None:
            replacement.accumulate_G(inputs, sync and not reg, gain)
        elif main:
            self._train_generator(inputs, sync and not reg, gain)
        if reg:
            super().accumulate_gradients("Greg", *inputs, sync, gain)

    def _discriminator_phase(self, inputs: Round, sync: bool, gain: float, main: bool, reg: bool) -> None:
        reg = reg and self.r1_gamma != 0
        if main:
            self.con_nimg += len(inputs.real_img) * num_processes()
        replacement = self.replacement()
        if replacement is not None:
            if main:
                self._train_on_views(inputs.real_img, inputs.real_c, self.settings.con_weight, "Con", gain)
            replacement.accumulate_D(inputs, sync, gain, main, reg)
        else:
            fake_terms = self._train_on_fakes_and_views(inputs, gain) if main else None
            if main or reg:
                self._train_on_reals(inputs, sync, gain, fake_terms, reg)
        if main:
            self.con_batches += int(sync)

    def _train_generator(self, inputs: Round, sync: bool, gain: float) -> None:
        img, _ws = self.run_G(inputs.gen_z, inputs.gen_c, sync=sync)
        out = self.run_D(img, inputs.gen_c, sync=False)
        self.report_heads("fake", out.logits)
        terms = adversarial.scale_means(out.logits, adversarial.real_loss)
        loss = adversarial.weighted_sum(terms, self.adv_weights)  # [N, 1]
        training_stats.report("Loss/G/loss", loss)
        report_terms("Loss/G", terms)
        loss = loss[:, 0] + self.additional_terms("generated", out, img, inputs.gen_c, inputs.gen_z)
        (loss.mean() * gain).backward()

    def _train_on_fakes_and_views(self, inputs: Round, gain: float) -> dict[int, torch.Tensor]:
        """Return the adversarial loss of generated images per scale, detached."""
        gen_img, fake_terms = self._train_on_fakes(inputs, gain)
        if self.settings.con_views == "two":
            self._train_on_views(inputs.real_img, inputs.real_c, self.settings.con_weight, "Con", gain)
        self._train_on_views(gen_img, inputs.gen_c, self.settings.con_fake_weight, "ConFake", gain)
        return fake_terms

    def _train_on_fakes(self, inputs: Round, gain: float) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Return the images and their adversarial loss per scale, both detached."""
        with torch.no_grad():
            img, _ws = self.run_G(inputs.gen_z, inputs.gen_c, sync=False)
        out = self.run_D(img, inputs.gen_c, sync=False)
        self.report_heads("fake", out.logits)
        report_gradient_norm("Loss/D", out.features)
        terms = adversarial.scale_means(out.logits, adversarial.fake_loss)
        loss = adversarial.weighted_sum(terms, self.adv_weights)[:, 0]
        loss = loss + self.additional_terms("fake", out, img, inputs.gen_c, inputs.gen_z)
        (loss.mean() * gain).backward()
        return img, {h: term.detach() for h, term in terms.items()}

    def _train_on_views(self, img: torch.Tensor, c: torch.Tensor, weight: float, group: str, gain: float) -> None:
        weight = self._weight_now(weight)
        if weight > 0:
            (self._contrast(img, c, group) * (weight * gain)).backward()

    def _train_on_reals(
        self, inputs: Round, sync: bool, gain: float, fake_terms: dict[int, torch.Tensor] | None, reg: bool
    ) -> None:
        """Apply the main terms if ``fake_terms`` (for the statistics) is given, R1 if ``reg``, in one pass.

        With ``con_views=real`` the contrastive loss is one of the main terms.
        """
        weight = self._weight_now(self.settings.con_weight)
        is_view = fake_terms is not None and self.settings.con_views == "real" and weight > 0
        img = inputs.real_img.detach().requires_grad_(reg)
        augmented = self._augment(img)
        if is_view:  # before the pass with the real images: DistributedDataParallel goes by the last one
            (other_view,) = self._embed_views(augmented.detach(), inputs.real_c, 1, "Con")
        out = self._discriminate(augmented, inputs.real_c, sync, embed=is_view)
        self.report_heads("real", out.logits)
        loss = self.zero_of(out)
        if fake_terms is not None:
            loss = loss + self._adversarial_real(out.logits, fake_terms)
            loss = loss + self.additional_terms("real", out, img, inputs.real_c)
        if reg:
            penalty = _squared_gradient_norm(self.penalized_score(out), img)  # [N]
            regularizer = penalty * (self.r1_gamma / 2)
            training_stats.report("Loss/r1_penalty", penalty)
            training_stats.report("Loss/D/reg", regularizer)
            loss = loss + regularizer
        if is_view:  # last, so that the exchange of its gradients comes before the averaging of D's
            view = (identity_thetas(len(img), img.device), out.proj)
            loss = loss + self._compare(view, other_view, "Con") * weight
        (loss.mean() * gain).backward()

    def _adversarial_real(self, logits: adversarial.PerScale, fake_terms: dict[int, torch.Tensor]) -> torch.Tensor:
        """Compute the adversarial loss of real images, [N], and report it with that of the generated ones."""
        terms = adversarial.scale_means(logits, adversarial.real_loss)
        both_terms = {h: term.detach() + fake_terms[h] for h, term in terms.items()}
        training_stats.report("Loss/D/loss", adversarial.weighted_sum(both_terms, self.adv_weights))
        report_terms("Loss/D", both_terms)
        return adversarial.weighted_sum(terms, self.adv_weights)[:, 0]

    def _contrast(self, img: torch.Tensor, c: torch.Tensor, group: str) -> torch.Tensor:
        """Compute the contrastive loss of two new views of images [N, C, H, W], a scalar."""
        view1, view2 = self._embed_views(img, c, 2, group)
        return self._compare(view1, view2, group)

    def _embed_views(self, img: torch.Tensor, c: torch.Tensor, num_views: int, group: str) -> list[EmbeddedView]:
        """Draw views of images [N, C, H, W] and embed them, all views in one pass of D."""
        assert self.views is not None
        thetas = [self.views.draw_thetas(img) for _ in range(num_views)]
        views = torch.cat([self.views(img, theta) for theta in thetas])
        # Groups of the minibatch standard deviation that held two views of an image would give them away.
        out = self._discriminate(views, c.repeat(num_views, 1), sync=False, num_batches=num_views)
        report_gradient_norm(group, out.features, num_views)
        return [(theta, {h: x.chunk(num_views)[i] for h, x in out.proj.items()}) for i, theta in enumerate(thetas)]

    def _compare(self, view1: EmbeddedView, view2: EmbeddedView, group: str) -> torch.Tensor:
        """Compute the contrastive loss of two embedded views of the same images, a scalar."""
        (theta1, proj1), (theta2, proj2) = view1, view2
        losses, stats = contrastive.multiscale_losses(proj1, proj2, theta1, theta2, self.settings)
        loss = torch.stack([loss * self.con_scale_weights[h] for h, loss in losses.items()]).sum()
        training_stats.report(f"{group}/loss", loss)
        # The loop replaces NaN in gradients, so that a diverged loss would go unnoticed.
        training_stats.report(f"{group}/finite", loss.isfinite().float())
        for name, value in stats.items():
            training_stats.report(f"{group}/{name}", value)
        return loss

    def _weight_now(self, weight: float) -> float:
        """Scale a contrastive weight for this batch: 0 between intervals, less during the ramp."""
        if self.con_batches.item() % self.settings.con_interval != 0:
            return 0
        ramp_nimg = self.settings.con_ramp_kimg * 1000
        ramp = min(self.con_nimg.item() / ramp_nimg, 1) if ramp_nimg > 0 else 1
        return weight * self.settings.con_interval * ramp


def _squared_gradient_norm(score: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """Return the squared norm of the gradient of each image's score [N, 1] with respect to the image, [N]."""
    with conv2d_gradfix.no_weight_gradients():
        (grad,) = torch.autograd.grad(score.sum(), img, create_graph=True)
    return grad.square().sum(dim=[1, 2, 3])


def report_terms(group: str, terms: adversarial.PerScale) -> None:
    """Report the adversarial loss of each scale before weighting."""
    for h, term in terms.items():
        training_stats.report(f"{group}/adv_h{h}", term)


def report_gradient_norm(group: str, features: adversarial.PerScale, num_batches: int = 1) -> None:
    """Report, in the next backward pass, the norm of the gradient at the largest map that a branch reads.

    Args:
        group: Prefix of the statistic.
        features: Inputs of the branches by height.
        num_batches: They consist of this many batches of the same size; each has a norm of its own.
    """
    h = max(features, default=None)
    if h is None or not features[h].requires_grad:
        return

    def record(grad: torch.Tensor) -> None:
        training_stats.report(
            f"{group}/grad_norm_h{h}", grad.float().unflatten(0, (num_batches, -1)).flatten(1).norm(dim=1)
        )

    features[h].register_hook(record)
