"""Training phases: which network is trained on which terms, how often, by which optimizer.

Regularization is lazy (StyleGAN2, arXiv 1912.04958, appendix B): its terms are computed once per interval of
iterations, scaled by the interval.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from dnnlib.object_names import construct_class_by_name, get_obj_by_name
from torch_utils import training_stats
from torch_utils.host_memory import release_free_memory
from torch_utils.stopwatch import Stopwatch
from training.extensions import Extension
from training.gradients import remove_nonfinite
from training.loss import Loss
from training.round import Round

FUSED_DEVICES = ("cpu", "cuda")
"""Devices on which PyTorch's fused optimizers are faster than the others."""


@dataclass
class Phase:
    """One optimizer step on one network with one kind of terms."""

    name: str
    """As in `training.loss.PHASES`."""
    module: torch.nn.Module
    optimizer: torch.optim.Optimizer
    interval: int
    """Iterations between two runs, and the gain of the terms."""
    extensions: Sequence[Extension] = ()
    stopwatch: Stopwatch = field(init=False)

    def __post_init__(self) -> None:
        device = next(self.module.parameters()).device
        self.stopwatch = Stopwatch(device)
        # Second derivatives need blocks of other sizes; these phases are so rare that freeing memory costs nothing.
        self._frees_memory = device.type == "cpu" and self.interval > 1

    def run(self, loss: Loss, rounds: Sequence[Round]) -> None:
        """Accumulate the gradients of all rounds, then take an optimizer step."""
        self.stopwatch.start()
        if self._frees_memory:
            release_free_memory()
        self.accumulate_gradients(loss, rounds)
        training_stats.report(f"Health/nonfinite_grads/{self.name}", remove_nonfinite(self.module.parameters()))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # now, so that the gradients of two networks never coexist
        if self._frees_memory:
            release_free_memory()
        self.stopwatch.stop()

    def accumulate_gradients(self, loss: Loss, rounds: Sequence[Round]) -> None:
        """Accumulate the gradients of all rounds, while the extensions are active."""
        self.module.requires_grad_(True)
        with ExitStack() as active:
            for extension in self.extensions:
                active.enter_context(extension.during(self.name))
            for i, inputs in enumerate(rounds):
                loss.accumulate_gradients(
                    phase=self.name,
                    real_img=self._replaced(inputs.real_img),
                    real_c=inputs.real_c,
                    gen_z=inputs.gen_z,
                    gen_c=inputs.gen_c,
                    sync=i == len(rounds) - 1,
                    gain=self.interval,
                )
        self.module.requires_grad_(False)

    def _replaced(self, real_img: torch.Tensor) -> torch.Tensor:
        if self.name.startswith("D"):
            for extension in self.extensions:
                real_img = extension.replace_real(real_img)
        return real_img


def make_phases(
    prefix: str,
    module: torch.nn.Module,
    opt_kwargs: dict[str, Any],
    reg_interval: int | None,
    extensions: Sequence[Extension] = (),
) -> list[Phase]:
    """Construct the phases of one network.

    Args:
        prefix: 'G' or 'D'.
        module: The network to train.
        opt_kwargs: ``class_name`` of the optimizer and its arguments.
        reg_interval: Iterations between two regularization steps, or None for a single phase with all terms.
        extensions: Those whose hooks run in these phases.

    Returns:
        Main and regularization phase, which share an optimizer, or the single phase.
    """
    if reg_interval is None:
        optimizer = _construct_optimizer(module, opt_kwargs)
        return [Phase(f"{prefix}both", module, optimizer, 1, extensions)]
    # The shared optimizer takes i + 1 steps instead of i: its rates are scaled to the same total.
    ratio = reg_interval / (reg_interval + 1)
    scaled = {**opt_kwargs, "lr": opt_kwargs["lr"] * ratio, "betas": [beta**ratio for beta in opt_kwargs["betas"]]}
    optimizer = _construct_optimizer(module, scaled)
    return [
        Phase(f"{prefix}main", module, optimizer, 1, extensions),
        Phase(f"{prefix}reg", module, optimizer, reg_interval, extensions),
    ]


def _construct_optimizer(module: torch.nn.Module, opt_kwargs: dict[str, Any]) -> torch.optim.Optimizer:
    """Construct an optimizer; if it can, it updates all parameters in one pass over memory (docs/benchmarks.md).

    That is not an option of the run, which may continue on another device.
    """
    parameters = list(module.parameters())
    has_choice = "fused" in inspect.signature(get_obj_by_name(opt_kwargs["class_name"])).parameters
    # Fused kernels assume one memory format, but checkpoints restore moments in the contiguous one.
    is_possible = all(each.is_contiguous() and each.device.type in FUSED_DEVICES for each in parameters)
    if has_choice and is_possible and "foreach" not in opt_kwargs:
        opt_kwargs = {"fused": True, **opt_kwargs}
    optimizer: torch.optim.Optimizer = construct_class_by_name(params=parameters, **opt_kwargs)
    optimizer.register_load_state_dict_pre_hook(_keep_choice_of_fused)
    return optimizer


def _keep_choice_of_fused(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Let a state that was saved on another device not decide how this one computes.

    A CPU can do both, and goes on as the state was made: then the numbers are the same to the last bit.
    """
    devices = {parameter.device.type for group in optimizer.param_groups for parameter in group["params"]}
    if "fused" not in optimizer.defaults or devices == {"cpu"}:
        return state
    choice = {"fused": optimizer.defaults["fused"]}
    return {**state, "param_groups": [{**group, **choice} for group in state["param_groups"]]}
