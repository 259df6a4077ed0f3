import pytest
import torch

from dnnlib.errors import UserError
from msconD.discriminator import MsConDDiscriminator
from training.networks import Discriminator, Generator
from training.snapshots.transfer import transfer_weights

SMALL = {"channel_base": 64, "channel_max": 8}


def discriminator(cls=Discriminator, c_dim=0, **kwargs):
    return cls(c_dim, 16, 3, **SMALL, **kwargs)


def generator(num_layers=2, z_dim=8, c_dim=0):
    return Generator(z_dim, c_dim, 8, 16, 3, mapping_kwargs={"num_layers": num_layers}, synthesis_kwargs=SMALL)


def tensors(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_equal_networks():
    source, target = generator(), generator().requires_grad_(False)
    transfer = transfer_weights(source, target)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
    assert (transfer.new, transfer.unused) == ([], [])
    assert transfer.describe() == f"{len(transfer.copied)} of {len(transfer.copied)} tensors copied"
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_a_method_adds_branches():
    source, target = discriminator(), discriminator(MsConDDiscriminator, scales=[1, 8], proj_dim=4)
    before = tensors(target)
    transfer = transfer_weights(source, target)
    assert set(transfer.copied) == source.state_dict().keys()
    assert transfer.unused == []
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in transfer.new else source.state_dict()[name])
    assert "new, kept at their initial values: " in transfer.describe()
    back = transfer_weights(target, discriminator())
    assert back.new == []
    assert "of the snapshot unused: " in back.describe()


def test_another_mapping_depth_is_said():
    transfer = transfer_weights(generator(num_layers=4), generator(num_layers=2))
    assert "mapping.fc2.weight" in transfer.unused
    assert transfer.describe().endswith("the mapping networks differ in depth, see --map-depth")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (generator(z_dim=8), generator(z_dim=4), r"'mapping.fc0.weight' is \[8, 8\] in the snapshot and \[8, 4\] here"),
        (generator(), generator(c_dim=2), r"'mapping.fc0.weight' is \[8, 8\] in the snapshot and \[8, 16\] here"),
        (
            discriminator(),
            discriminator(architecture="orig"),
            "'b16' has architecture 'resnet' in the snapshot",
        ),
        (discriminator(), discriminator(block_kwargs={"activation": "relu"}), "has activation 'lrelu' in the snapshot"),
        (
            discriminator(MsConDDiscriminator, scales=(1, 8), shared="stack"),
            discriminator(MsConDDiscriminator, scales=(1, 8), shared="chain"),
            "'branch8.shared' has kind 'stack' in the snapshot",
        ),
        (torch.nn.Linear(2, 2), discriminator(), "the networks have no tensor in common"),
    ],
)
def test_networks_that_differ(source, target, words):
    before = tensors(target)
    with pytest.raises(UserError, match=words):
        transfer_weights(source, target)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
