"""A rehearsal of one iteration on the meta device, whose tensors have no data: what it keeps in memory, and computes.

Every phase runs once with its real networks, loss, extensions and augmentation, of any method. What operators return is
counted as long as something refers to it, so that the peak includes activations, gradients and second derivatives;
what an operator uses while it runs (workspaces of convolutions, changes of layout) is not.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as fx_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from torch_utils import misc
from training.loss import Loss
from training.networks import bfloat16_training
from training.phases import Phase
from training.round import Round
from training.run.construction import (
    ImageShape,
    construct_loss,
    construct_networks,
    construct_phases,
    image_shape,
    networks_of_participants,
)
from training.run.dataset_info import DatasetInfo
from training.run.settings import TrainingSettings

META = torch.device("meta")
TYPICAL_P = 0.3
"""Probability of adaptive augmentation: training begins at 0, where less is computed."""


@dataclass(frozen=True)
class Rehearsal:
    """Memory and computation of one iteration in one process."""

    weight_bytes: int
    """Parameters and buffers of everything that is trained, and of the average of G."""
    optimizer_bytes: int
    """Moments of Adam."""
    gradient_bytes: int
    """Gradients of the larger of the trained networks."""
    pass_bytes: int
    """Peak of activations and gradients during a pass of ``batch_gpu`` images."""
    flops: float
    """Floating-point operations of matrix products and convolutions per iteration; a regularization counts once per
    interval."""


def rehearse(settings: TrainingSettings, dataset: DatasetInfo, on_cpu: bool) -> Rehearsal:
    """Run all phases of an iteration on the meta device.

    Args:
        settings: Settings of the run.
        dataset: The images and labels.
        on_cpu: Compute in float32, as CPUs do whatever ``--precision`` says, but for bfloat16.

    Raises:
        RuntimeError: An operator of a method does not exist for the meta device.
    """
    with torch.random.fork_rng([]), fx_config.patch(meta_nonzero_assume_all_nonzero=True):  # type: ignore[attr-defined]
        torch.manual_seed(0)
        settings = dataclasses.replace(
            settings,
            G_kwargs=_as_computed(settings.G_kwargs, on_cpu),
            D_kwargs=_as_computed(settings.D_kwargs, on_cpu),
            augment_p=settings.augment_p or (TYPICAL_P if settings.has_augmentation else 0),
        )
        shape = image_shape(settings, dataset)
        with META:
            networks = construct_networks(settings, shape, META)
        loss = construct_loss(settings, networks, META)
        phases = construct_phases(settings, networks, loss)
        _always_mixing(loss)
        inputs = _inputs(settings, shape, networks.G.z_dim)
        with bfloat16_training(dataset.resolution, settings.num_bf16_res):
            passes = [_rehearse_pass(phase, loss, inputs) for phase in phases]
    num_rounds = settings.batch_size // settings.num_gpus // settings.batch_gpu
    trained = [_num_bytes(list(phase.module.parameters())) for phase in (phases[0], phases[-1])]
    G_ema = networks.G  # as large
    kept = [G_ema, *filter(None, networks), *networks_of_participants(loss).values()]
    return Rehearsal(
        weight_bytes=_num_bytes([tensor for network in kept for tensor in misc.params_and_buffers(network)]),
        optimizer_bytes=2 * sum(trained),
        gradient_bytes=max(trained),
        pass_bytes=max(watch.peak_bytes for watch in passes),
        flops=sum(watch.flops * num_rounds / phase.interval for phase, watch in zip(phases, passes, strict=True)),
    )


def _rehearse_pass(phase: Phase, loss: Loss, inputs: Round) -> _Watch:
    """Run a phase for one round, up to the optimizer step, which takes no memory that lasts."""
    with (watch := _Watch()):
        phase.accumulate_gradients(loss, [inputs])
        phase.optimizer.zero_grad(set_to_none=True)
    return watch


def _always_mixing(loss: Any) -> None:
    """Let every pass mix styles, which takes the most."""
    if getattr(loss, "style_mixing_prob", 0) > 0:
        loss.style_mixing_prob = 1


def _as_computed(kwargs: dict[str, Any], on_cpu: bool) -> dict[str, Any]:
    """Leave float16 out on CPUs."""
    if not on_cpu:
        return kwargs
    changed = {**kwargs, **({"num_fp16_res": 0} if "num_fp16_res" in kwargs else {})}
    if "synthesis_kwargs" in kwargs:
        changed["synthesis_kwargs"] = _as_computed(kwargs["synthesis_kwargs"], on_cpu)
    return changed


def _inputs(settings: TrainingSettings, shape: ImageShape, z_dim: int) -> Round:
    num = settings.batch_gpu
    sizes = [num, shape.img_channels, shape.img_resolution, shape.img_resolution]
    img, z, c = (torch.zeros(size, device=META) for size in (sizes, [num, z_dim], [num, shape.c_dim]))
    return Round(real_img=img, real_c=c, gen_z=z, gen_c=c)


def _num_bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


class _Watch(TorchDispatchMode):
    """Counts the bytes of all tensors on the meta device that are alive, and the operations that made them."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self.flops = 0.0
        self._live_bytes = 0
        self._alive: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to be hidden from the compiler would import all of it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it returns."""
        kwargs = kwargs or {}
        if (answer := read_as_ones(func, args, kwargs)) is not None:
            return answer
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=result)
        for leaf in [result] if isinstance(result, torch.Tensor) else tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device == META:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self._live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        weakref.finalize(storage, self._remove, key, num_bytes)

    def _remove(self, key: int, num_bytes: int) -> None:
        self._alive.discard(key)
        self._live_bytes -= num_bytes


def read_as_ones(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return ones where an operator reads values from a tensor that has none; None elsewhere."""
    name = func._schema.name
    if name == "aten::_local_scalar_dense" and args[0].device == META:
        return torch.ones([], dtype=args[0].dtype).item()
    if name == "aten::_to_copy" and args[0].device == META and kwargs.get("device", META) != META:
        return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=kwargs["device"])
    return None
