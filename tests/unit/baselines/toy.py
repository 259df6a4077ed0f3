"""A loss with tiny networks, for tests of what extends it."""

import torch

from training.loss import StyleGAN2Loss
from training.networks import Discriminator, Generator

RESOLUTION = 8
SIZE = {"c_dim": 0, "img_resolution": RESOLUTION, "img_channels": 3}
CAPACITY = {"channel_base": 32, "channel_max": 8}


def make_generator():
    """A generator of 8 px images without noise inputs, so that it is a function of z."""
    synthesis_kwargs = {**CAPACITY, "use_noise": False}
    return Generator(z_dim=4, w_dim=4, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=synthesis_kwargs, **SIZE)


def make_loss(loss_class=StyleGAN2Loss, D=None, extensions=(), **kwargs):
    """The loss, with its extensions given as functions of it."""
    G = make_generator().requires_grad_(False)
    D = Discriminator(**SIZE, **CAPACITY, epilogue_kwargs={"mbstd_num_channels": 0}) if D is None else D
    kwargs = {"style_mixing_prob": 0, "pl_weight": 0, **kwargs}
    loss = loss_class(torch.device("cpu"), G.mapping, G.synthesis, D.requires_grad_(False), **kwargs)
    loss.extensions = [make(loss) for make in extensions]
    return loss


def inputs(num=4):
    """Arguments of ``accumulate_gradients`` apart from the phase."""
    no_labels = torch.zeros([num, 0])
    return {
        "real_img": torch.randn([num, 3, RESOLUTION, RESOLUTION]),
        "real_c": no_labels,
        "gen_z": torch.randn([num, 4]),
        "gen_c": no_labels,
        "sync": True,
        "gain": 1,
    }


def gradients(loss, phase, network, arguments):
    """Gradients of a phase by parameter name."""
    network.requires_grad_(True)
    loss.accumulate_gradients(phase=phase, **arguments)
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    network.requires_grad_(False)
    return found


def expected_gradients(network, compute):
    """Gradients of a scalar."""
    network.requires_grad_(True)
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(compute(), parameters, allow_unused=True)
    network.requires_grad_(False)
    return dict(zip(names, found, strict=True))


def assert_close(found, expected, tolerance=1e-6):
    """Compare dicts of gradients; None counts as zero."""
    assert found.keys() == expected.keys()
    for name in found:
        zero = torch.zeros(())
        first, second = (x[name] if x[name] is not None else zero for x in (found, expected))
        scale = max(float(second.abs().max()), 1)
        assert float((first - second).abs().max()) <= tolerance * scale, name
