"""Transfer learning: weights of one network copied into another that need not be quite the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from dnnlib.errors import UserError
from torch_utils.misc import LIKELY_DIFFERENCES, copy_params_and_buffers, named_params_and_buffers
from training.data.names import first_few
from training.snapshots.checkpoint_networks import open_snapshot

SETTINGS = ("architecture", "activation", "up", "down", "use_noise")
"""Attributes of layers that change what a weight means, not its shape; those in its ``weight_settings`` are added."""


@dataclass(frozen=True)
class Transfer:
    """What was copied: names of tensors, as in ``state_dict``."""

    copied: list[str]
    new: list[str]
    """Tensors that the source does not have; they keep their initial values."""
    unused: list[str]
    """Tensors of the source that have no counterpart."""

    def describe(self) -> str:
        """Describe the transfer in one line."""
        text = f"{len(self.copied)} of {len(self.copied) + len(self.new)} tensors copied"
        for names, what in ((self.new, "new, kept at their initial values"), (self.unused, "of the snapshot unused")):
            if names:
                text += f"; {what}: {first_few(names, 3)}"
        if any(name.startswith("mapping.fc") for name in self.new + self.unused):
            text += "; the mapping networks differ in depth, see --map-depth"
        return text


def transfer_snapshot(resume: str, networks: Mapping[str, torch.nn.Module], trusted: bool = False) -> Iterator[str]:
    """Copy the weights of a snapshot or checkpoint into networks, and yield lines about it.

    Args:
        resume: Snapshot or checkpoint, as for `training.snapshots.checkpoint_networks.open_snapshot`.
        networks: Networks to copy into, by the name of the part of the snapshot.
        trusted: Allow the snapshot to execute code.

    Raises:
        UserError: It cannot be read, or does not fit.
    """
    snapshot = open_snapshot(resume, list(networks), trusted)
    yield from snapshot.notes
    for name, network in networks.items():
        try:
            yield f"{name}: {transfer_weights(snapshot.parts[name], network).describe()}"
        except UserError as error:
            raise UserError(f"--resume={resume}: {name}: {error}") from error


def transfer_weights(source: torch.nn.Module, target: torch.nn.Module) -> Transfer:
    """Copy every parameter and buffer that both networks have, by name.

    Args:
        source: Where the values come from.
        target: Receives them; its dtypes, devices and ``requires_grad`` stay.

    Raises:
        UserError: Shapes or architectures differ, or the two have nothing in common. Then nothing has been copied.
    """
    _check_settings(source, target)
    sources, targets = dict(named_params_and_buffers(source)), dict(named_params_and_buffers(target))
    copied = [name for name in targets if name in sources]
    for name in copied:
        theirs, ours = list(sources[name].shape), list(targets[name].shape)
        if theirs != ours:
            raise UserError(f"'{name}' is {theirs} in the snapshot and {ours} here; {LIKELY_DIFFERENCES}")
    if all(name.endswith("resample_filter") for name in copied):
        raise UserError("the networks have no tensor in common")
    copy_params_and_buffers(source, target)
    return Transfer(copied, [name for name in targets if name not in sources], [n for n in sources if n not in targets])


def _check_settings(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Refuse layers of the same name and shape that compute something else."""
    theirs = dict(source.named_modules())
    for name, ours in target.named_modules():
        for setting in (*SETTINGS, *getattr(ours, "weight_settings", ())):
            values = [getattr(module, setting, None) for module in (theirs.get(name), ours)]
            if None not in values and values[0] != values[1]:
                raise UserError(
                    f"'{name or type(ours).__name__}' has {setting} {values[0]!a:.50} in the snapshot "
                    f"and {values[1]!a:.50} here; choose the --cfg that it was trained with"
                )
