"""What the next iteration depends on: collected from a running trainer, and put back into a fresh one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from torch_utils.rng import get_rng_state, set_rng_state

if TYPE_CHECKING:
    from training.phases import Phase
    from training.training_loop import Trainer


def collect_state(trainer: Trainer) -> dict[str, Any]:
    """The state of a trainer as a tree for `training.state.save_state`; every process must call this."""
    own = {
        "rng": get_rng_state(trainer.device),
        "stats": trainer.stats.state_dict(),
        "ada": {} if trainer.ada is None else trainer.ada.state_dict(),
        # On the CPU: a CUDA tensor that is gathered would come back on the device of its owner in every process.
        "loss": {name: tensor.cpu() for name, tensor in trainer.loss.state_dict().items()},
    }
    return {
        "modules": {name: module.state_dict() for name, module in trainer.modules().items()},
        "optimizers": {phase.name: phase.optimizer.state_dict() for phase in _one_phase_per_optimizer(trainer)},
        "batches": trainer.batches.state_dict(),
        "grid": {"z": trainer.grid_z, "c": trainer.grid_c},
        "ranks": gather(own, trainer.opts.num_gpus),
    }


def apply_state(trainer: Trainer, tree: dict[str, Any]) -> None:
    """Put what `collect_state` returned into a trainer that was constructed with the same options."""
    for name, module in trainer.modules().items():
        module.load_state_dict(tree["modules"][name])
    for phase in _one_phase_per_optimizer(trainer):
        saved = tree["optimizers"][phase.name]
        by_index = {int(index): values for index, values in saved["state"].items()}  # JSON has text keys only
        phase.optimizer.load_state_dict({**saved, "state": by_index})
    trainer.batches.load_state_dict(tree["batches"])
    trainer.grid_z.copy_(tree["grid"]["z"])
    trainer.grid_c.copy_(tree["grid"]["c"])
    own = tree["ranks"][trainer.opts.rank]
    trainer.stats.load_state_dict(own["stats"])
    trainer.loss.load_state_dict(own["loss"])
    if trainer.ada is not None:
        trainer.ada.load_state_dict(own["ada"])
    set_rng_state(own["rng"], trainer.device)  # last: nothing may draw numbers after it


def gather(value: Any, world_size: int) -> list[Any]:
    """``value`` of every process, in every process."""
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _one_phase_per_optimizer(trainer: Trainer) -> list[Phase]:
    return list({id(phase.optimizer): phase for phase in reversed(trainer.phases)}.values())
