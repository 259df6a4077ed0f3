"""The objects that a run trains, and those that it trains them with, constructed from its settings."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from dnnlib.formatting import plural
from dnnlib.logger import write_to_log
from dnnlib.object_names import construct_class_by_name
from torch_utils import distributed, misc
from training.checkpoint import Stateful
from training.checkpoint_names import has_checkpoint
from training.run.construction import (
    ImageShape,
    Networks,
    construct_ada,
    construct_batches,
    construct_loss,
    construct_networks,
    construct_phases,
    networks_of_participants,
)
from training.run.settings import TrainingSettings
from training.snapshots.transfer import transfer_snapshot


class TrainingState:
    """Networks, dataset, loss, phases and inputs of a run; every process constructs one.

    The initial weights are drawn from torch's generators; every process gets those of rank 0.

    Args:
        settings: Settings of the run.
        device: Device of this process.
        say: Prints a line.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device, say: Callable[[str], None]) -> None:
        self._settings, self._device, self._say = settings, device, say
        self.training_set = self._open_dataset()
        self.G, self.D, self.augment_pipe = networks = self._construct_networks()
        self.G_ema: Any = copy.deepcopy(self.G).eval()
        if settings.resume_pkl is not None and settings.is_main and not has_checkpoint(Path(settings.run_dir)):
            self._transfer_from(settings.resume_pkl)  # the other processes receive rank 0's tensors
        for network in (self.G, self.D, self.G_ema, self.augment_pipe):
            if network is not None:
                distributed.broadcast_(misc.params_and_buffers(network))
        if settings.is_main and settings.progress != "none":
            self._log_summaries()

        self.loss = construct_loss(settings, networks, device, lambda module: distributed.parallel(module, device))
        for network in networks_of_participants(self.loss).values():
            distributed.broadcast_(misc.params_and_buffers(network))
        self.phases = construct_phases(settings, networks, self.loss)
        self.ada = construct_ada(settings, self.augment_pipe)
        self.batches = construct_batches(settings, self.training_set, self.G.z_dim, device)

    def _open_dataset(self) -> Any:
        self._say("Loading training set...")
        training_set = construct_class_by_name(**self._settings.training_set_kwargs)
        labels = f"labels of width {training_set.label_dim}" if training_set.has_labels else "no labels"
        self._say(f"  {plural(len(training_set), 'image')} {training_set.image_shape}, {labels}")
        return training_set

    def _construct_networks(self) -> Networks:
        self._say("Constructing networks...")
        data = self.training_set
        shape = ImageShape(data.label_dim, data.resolution, data.num_channels)
        return construct_networks(self._settings, shape, self._device)

    def _transfer_from(self, resume_pkl: str) -> None:
        self._say(f"Resuming from {resume_pkl}")
        networks = {"G": self.G, "D": self.D, "G_ema": self.G_ema}
        for line in transfer_snapshot(resume_pkl, networks, self._settings.trust_pickle):
            self._say(f"  {line}")

    def _log_summaries(self) -> None:
        batch = self._settings.batch_gpu
        z = torch.zeros([batch, self.G.z_dim], device=self._device)
        c = torch.zeros([batch, self.G.c_dim], device=self._device)
        tables = io.StringIO()
        # They must not influence training: the noise is drawn from streams that are restored afterwards.
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []), redirect_stdout(tables):
            img = misc.print_module_summary(self.G_ema, [z, c])
            misc.print_module_summary(copy.deepcopy(self.D).eval(), [img, c])
        write_to_log(tables.getvalue())

    @property
    def augment_p(self) -> float:
        """Probability of augmentation; 0 without augmentation."""
        return 0.0 if self.augment_pipe is None else float(self.augment_pipe.get_buffer("p"))

    def networks(self) -> dict[str, torch.nn.Module]:
        """Return the networks by their names in snapshots."""
        networks = {"G": self.G, "D": self.D, "G_ema": self.G_ema}
        if self.augment_pipe is not None:
            networks["augment_pipe"] = self.augment_pipe
        return {**networks, **networks_of_participants(self.loss)}

    def stateful(self) -> dict[str, Stateful]:
        """Return what a checkpoint must hold; names are those in the checkpoint."""
        optimizers = {phase.optimizer: phase.name for phase in reversed(self.phases)}
        return {
            **{f"modules/{name}": network for name, network in self.networks().items()},
            **{f"optimizers/{name}": optimizer for optimizer, name in optimizers.items()},
            "batches": self.batches,
            "ranks/loss": self.loss,
            **{f"ranks/{type(each).__name__}": each for each in self.loss.extensions},
            **({} if self.ada is None else {"ranks/ada": self.ada}),
        }
