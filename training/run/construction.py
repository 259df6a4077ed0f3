"""Constructing a run from its settings: networks, then the loss with its extensions, then phases and their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from dnnlib.object_names import construct_class_by_name
from training.ada import AdaptiveAugmentation
from training.batches import Batches
from training.dataset import Dataset
from training.extensions import Participant
from training.loss import Loss
from training.phases import Phase, make_phases
from training.run.dataset_info import DatasetInfo
from training.run.settings import TrainingSettings


class ImageShape(NamedTuple):
    """Arguments of networks that depend on the data."""

    c_dim: int
    """Width of labels; 0 without labels."""
    img_resolution: int
    img_channels: int


def image_shape(settings: TrainingSettings, dataset: DatasetInfo) -> ImageShape:
    """Return the arguments of the networks of a run whose dataset is only described."""
    return ImageShape(dataset.label_dim if settings.uses_labels else 0, dataset.resolution, dataset.num_channels)


class Networks(NamedTuple):
    """The networks that every method has, in training mode, without gradients."""

    G: Any
    D: Any
    augment_pipe: Any
    """None without augmentation."""


def construct_networks(settings: TrainingSettings, shape: ImageShape, device: torch.device) -> Networks:
    """Construct networks; their weights are drawn on the default device, then moved."""

    def construct(**kwargs: Any) -> Any:
        module: torch.nn.Module = construct_class_by_name(**kwargs)
        return module.train().requires_grad_(False).to(device)

    G = construct(**settings.G_kwargs, **shape._asdict())
    D = construct(**settings.D_kwargs, **shape._asdict())
    augment_pipe = None
    if settings.has_augmentation:
        augment_pipe = construct(**(settings.augment_kwargs or {}))
        augment_pipe.get_buffer("p").fill_(settings.augment_p)
    return Networks(G, D, augment_pipe)


def construct_loss(
    settings: TrainingSettings,
    networks: Networks,
    device: torch.device,
    wrap: Callable[[Any], Any] = lambda module: module,
) -> Loss:
    """Construct the loss with its extensions; the networks that they add have no gradients yet.

    Args:
        settings: Settings of the run.
        networks: The result of `construct_networks`.
        device: Device of the networks.
        wrap: Applied to each module that the loss calls, for example to average gradients over processes.
    """
    G, D, augment_pipe = networks
    loss: Loss = construct_class_by_name(
        device=device,
        G_mapping=wrap(G.mapping),
        G_synthesis=wrap(G.synthesis),
        D=wrap(D),
        augment_pipe=augment_pipe,
        **settings.loss_kwargs,
    )
    loss.extensions = [
        construct_class_by_name(extended_loss=loss, batch_size=settings.batch_size, **kwargs)
        for kwargs in settings.extension_kwargs
    ]
    for network in networks_of_participants(loss).values():
        network.requires_grad_(False)
    return loss


def participants(loss: Loss) -> list[Participant]:
    """Return the loss and its extensions."""
    return [loss, *loss.extensions]


def networks_of_participants(loss: Loss) -> dict[str, torch.nn.Module]:
    """Return the networks that the loss and its extensions add, by their names in snapshots."""
    return {name: network for each in participants(loss) for name, network in each.networks().items()}


def construct_phases(settings: TrainingSettings, networks: Networks, loss: Loss) -> list[Phase]:
    """Construct the phases of G, then those of D."""
    G, D = _trained("G", networks.G, loss), _trained("D", networks.D, loss)
    return [
        *make_phases("G", G, settings.G_opt_kwargs, settings.G_reg_interval, loss.extensions),
        *make_phases("D", D, settings.D_opt_kwargs, settings.D_reg_interval, loss.extensions),
    ]


def _trained(name: str, network: torch.nn.Module, loss: Loss) -> torch.nn.Module:
    """Return G or D, in a list with the modules that participants train with it if there are any."""
    others = [module for each in participants(loss) for module in each.trained_with(name)]
    return torch.nn.ModuleList([network, *others]) if others else network


def construct_ada(settings: TrainingSettings, augment_pipe: torch.nn.Module | None) -> AdaptiveAugmentation | None:
    """Construct what adjusts the probability of augmentation; None if it is fixed, or without augmentation."""
    if augment_pipe is None or settings.ada_target is None:
        return None
    return AdaptiveAugmentation(
        augment_pipe.get_buffer("p"),
        target=settings.ada_target,
        interval=settings.ada_interval,
        batch_size=settings.batch_size,
        ada_kimg=settings.ada_kimg,
        max_p=settings.ada_max_p,
    )


def construct_batches(settings: TrainingSettings, training_set: Dataset, z_dim: int, device: torch.device) -> Batches:
    """Construct the source of the batches of this process."""
    return Batches(
        training_set,
        batch_size=settings.batch_size,
        batch_gpu=settings.batch_gpu,
        z_dim=z_dim,
        rank=settings.rank,
        world_size=settings.num_gpus,
        seed=settings.random_seed,
        device=device,
        data_loader_kwargs=settings.data_loader_kwargs,
    )
