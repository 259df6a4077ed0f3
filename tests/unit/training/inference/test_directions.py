import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from training.inference import directions
from training.inference.sampling import class_label, map_seeds
from training.networks import Generator

CPU = torch.device("cpu")


@torch.no_grad()
def styles(G, ws):
    """What the affine layers of each of the num_ws layers give, found by hooks, not by their names."""
    found = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: found.append((inputs[0], output)))
        for name, module in G.synthesis.named_modules()
        if name.endswith("affine")
    ]
    G.synthesis(ws, noise_mode="none")
    for hook in hooks:
        hook.remove()
    gains = [
        getattr(module, "weight_gain", 1) for name, module in G.synthesis.named_modules() if hasattr(module, "affine")
    ]
    return [
        (next(i for i in range(G.num_ws) if torch.equal(w[0], ws[0, i])), (style * gain)[0].double())
        for (w, style), gain in zip(found, gains, strict=True)
    ]


def eigenvectors(G, layers):
    """A independent decomposition: styles by finite differences, which are exact for an affine map."""
    base = torch.randn(1, G.num_ws, G.w_dim)
    columns = []
    for k in range(G.w_dim):
        moved = base.clone()
        moved[:, :, k] += 64
        difference = [
            (after - before) / 64
            for (layer, before), (_, after) in zip(styles(G, base), styles(G, moved), strict=True)
            if layer in layers
        ]
        columns.append(torch.cat(difference))
    A = torch.stack(columns, dim=1).numpy()
    values, vectors = np.linalg.eigh(A.T @ A)
    return values[::-1], vectors.T[::-1]


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
@pytest.mark.parametrize("layers", [[0], [1, 2], None])
def test_sefa_equals_an_independent_decomposition(architecture, layers):
    torch.manual_seed(2)
    kwargs = {**tiny_snapshot.SMALL, "architecture": architecture}
    G = Generator(8, 0, 8, 16, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=kwargs).eval()
    layers = directions.layers_in(layers, G.num_ws)
    found = directions.sefa(G, layers).numpy()
    values, expected = eigenvectors(G, layers)
    assert np.diff(values).max() < -1e-4 * values[0]  # so that the vectors are unique but for their signs
    cosines = (found * expected).sum(axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-5)
    np.testing.assert_allclose(found * np.sign(cosines)[:, None], expected, atol=2e-4)
    exact = torch.cat([weight for layer in layers for weight in directions.style_weights(G)[layer]]).numpy()
    vectors = np.linalg.eigh(exact.T @ exact)[1].T[::-1]
    signs = np.sign((found * vectors).sum(axis=1))[:, None]
    np.testing.assert_allclose(found * signs, vectors, atol=1e-5)


def test_the_sign_of_a_direction_is_that_of_its_largest_component():
    found = directions.sefa(tiny_snapshot.generator(), [0, 1])
    assert (found.gather(1, found.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_sefa_needs_styles():
    G = tiny_snapshot.generator()
    G.synthesis.block_resolutions = []
    with pytest.raises(UserError, match="SeFa needs a generator with styles"):
        directions.sefa(G, [0])


def test_ganspace_finds_the_axes_of_a_gaussian():
    rng = np.random.RandomState(0)
    axes = np.linalg.qr(rng.randn(4, 4))[0]
    w = torch.from_numpy(rng.randn(20_000, 4) * [4, 3, 2, 1] @ axes + 7)
    found = directions.ganspace(w)
    np.testing.assert_allclose(np.abs((found.numpy() * axes).sum(axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(directions.deviations(w, found), [4, 3, 2, 1], rtol=0.03)


def test_moves_change_the_given_layers_only():
    G = tiny_snapshot.generator()
    ws = map_seeds(G, [0, 1], class_label(G, None, CPU))
    moved = directions.move(ws, torch.arange(8.0), [1, 3])
    difference = moved - ws
    torch.testing.assert_close(difference[:, [1, 3]], torch.arange(8.0).expand(2, 2, 8))
    assert (difference[:, [0, 2]] == 0).all()


def test_strengths_are_symmetric():
    assert directions.strengths(3, 5) == [-3, -1.5, 0, 1.5, 3]


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(UserError, match="--layers: there is no layer 6, this network has layers 0-5"):
        directions.layers_in([0, 6], 6)
