"""The phases of a training iteration on random images, on any device: what the benchmarks count and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dnnlib.errors import UserError
from train import main as train_command
from train import read_flags
from training.extensions import Participant
from training.networks import bfloat16_training
from training.phases import Phase
from training.round import Round
from training.run.construction import ImageShape, construct_loss, construct_networks, construct_phases, participants
from training.run.dataset_info import DatasetInfo
from training.run.flags import Flags
from training.run.options import resolve
from training.run.rehearsal import TYPICAL_P
from training.run.settings import TrainingSettings

NUM_IMAGES = 100_000
IMG_CHANNELS = 3


@dataclass(frozen=True)
class Iteration:
    """The phases of one process, and what they run on."""

    settings: TrainingSettings
    resolution: int
    loss: Any
    participants: list[Participant]
    phases: list[Phase]
    rounds: list[Round]

    def run(self, phase: Phase) -> None:
        """Run a phase as the training loop does, optimizer step included."""
        with bfloat16_training(self.resolution, self.settings.num_bf16_res):
            phase.run(self.loss, self.rounds)

    def run_around(self) -> None:
        """Run what the loss and its extensions do before and after the phases, such as moving averages."""
        for participant in self.participants:
            participant.begin_iteration()
        for participant in self.participants:
            participant.end_iteration(1)


def parse_flags(args: Sequence[str]) -> Flags:
    """Read flags of ``train.py``, of which none is required.

    Without ``--batch``, an iteration has one round: the batch is ``--batch-gpu`` times ``--gpus``.

    Raises:
        click.UsageError: A flag is unknown or its value is not allowed.
    """
    context = train_command.make_context("train.py", list(args))
    flags = dataclasses.replace(read_flags(context), data="random images")
    if flags.batch_gpu is not None and flags.batch is None:
        flags = dataclasses.replace(flags, batch=flags.batch_gpu * flags.gpus)
    return flags


def build_iteration(flags: Flags, resolution: int, device: torch.device) -> Iteration:
    """Construct networks, loss and phases like the training loop, without labels, data loading and processes.

    Raises:
        UserError: Flags contradict each other.
    """
    try:
        dataset = DatasetInfo("random", resolution, NUM_IMAGES, has_labels=False)
        settings = TrainingSettings(**resolve(flags, dataset), device=device)
    except ValueError as error:
        raise UserError(str(error)) from error

    with device:
        networks = construct_networks(settings, ImageShape(0, resolution, IMG_CHANNELS), device)
    if networks.augment_pipe is not None:
        networks.augment_pipe.get_buffer("p").fill_(settings.augment_p or TYPICAL_P)
    loss = construct_loss(settings, networks, device)
    phases = construct_phases(settings, networks, loss)
    rounds = _random_rounds(settings, networks.G.z_dim, resolution)
    return Iteration(settings, resolution, loss, participants(loss), phases, rounds)


def _random_rounds(settings: TrainingSettings, z_dim: int, resolution: int) -> list[Round]:
    num, device = settings.batch_gpu, settings.device
    no_labels = torch.zeros([num, 0], device=device)
    return [
        Round(
            real_img=torch.rand([num, IMG_CHANNELS, resolution, resolution], device=device) * 2 - 1,
            real_c=no_labels,
            gen_z=torch.randn([num, z_dim], device=device),
            gen_c=no_labels,
        )
        for _ in range(settings.batch_size // settings.num_gpus // num)
    ]
