import pytest
import torch

from training.run.construction import (
    ImageShape,
    construct_loss,
    construct_networks,
    construct_phases,
    networks_of_participants,
    participants,
)
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.settings import TrainingSettings

SHAPE = ImageShape(c_dim=3, img_resolution=16, img_channels=1)
CPU = torch.device("cpu")


def constructed(**flags):
    flags = {"cbase": 64, "cmax": 16, "map_depth": 1, "batch": 4, "metrics": (), **flags}
    settings = TrainingSettings(**resolve(Flags(data="x", cond=True, **flags), DatasetInfo("x", 16, 24, True)))
    networks = construct_networks(settings, SHAPE, CPU)
    return settings, networks


def test_networks_fit_the_images():
    _settings, (G, D, augment_pipe) = constructed(aug="fixed", p=0.25)
    assert G(torch.zeros([2, G.z_dim]), torch.zeros([2, 3])).shape == (2, 1, 16, 16)
    assert (D.c_dim, D.img_resolution, D.img_channels) == SHAPE
    assert augment_pipe.p == 0.25
    for network in (G, D, augment_pipe):
        assert network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_without_augmentation():
    assert constructed(aug="noaug")[1].augment_pipe is None


def test_the_loss_calls_wrapped_networks():
    settings, networks = constructed(aug="noaug")
    wrapped = []
    loss = construct_loss(settings, networks, CPU, lambda module: wrapped.append(module) or module)
    assert wrapped == [networks.G.mapping, networks.G.synthesis, networks.D]
    assert participants(loss) == [loss]


@pytest.mark.parametrize("cfg", ["stylegan2", "insgen"])
def test_phases_train_g_and_d_and_what_participants_train_with_them(cfg):
    settings, networks = constructed(aug="noaug", cfg=cfg)
    loss = construct_loss(settings, networks, CPU)
    phases = construct_phases(settings, networks, loss)
    assert [phase.name for phase in phases] == ["Gmain", "Greg", "Dmain", "Dreg"]
    assert phases[0].module is networks.G
    trained = {id(parameter) for parameter in phases[-1].module.parameters()}
    others = [module for each in participants(loss) for module in each.trained_with("D")]
    assert bool(others) == (cfg == "insgen")
    for module in (networks.D, *others):
        assert {id(parameter) for parameter in module.parameters()} <= trained
    assert not any(p.requires_grad for each in networks_of_participants(loss).values() for p in each.parameters())
