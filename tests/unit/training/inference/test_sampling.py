import numpy as np
import pytest
import torch

from dnnlib.util import UserError
from tests import tiny_snapshot
from training.inference import sampling

CPU = torch.device("cpu")


def test_latents_are_those_of_the_seeds():
    G = tiny_snapshot.generator()
    ws = sampling.map_seeds(G, [4, 2**32 - 1], sampling.class_label(G, None, CPU), truncation_psi=0.5)
    for i, seed in enumerate([4, 2**32 - 1]):
        z = torch.from_numpy(np.random.RandomState(seed).randn(1, 8)).float()
        torch.testing.assert_close(ws[i : i + 1], G.mapping(z, None, truncation_psi=0.5))


def test_snapshot_gives_its_averaged_generator_ready_for_use(tmp_path):
    G_ema = tiny_snapshot.write(tmp_path / "snapshot.pkl")
    G = sampling.load_generator(str(tmp_path / "snapshot.pkl"), CPU)
    assert not G.training
    assert not any(parameter.requires_grad for parameter in G.parameters())
    assert all(torch.equal(tensor, G_ema.state_dict()[name]) for name, tensor in G.state_dict().items())


def test_label_is_one_hot():
    G = tiny_snapshot.generator(c_dim=3)
    assert sampling.class_label(G, 1, CPU).tolist() == [[0, 1, 0]]
    assert sampling.class_label(tiny_snapshot.generator(), None, CPU).shape == (1, 0)


@pytest.mark.parametrize(("c_dim", "class_idx"), [(3, None), (3, 3), (3, -1), (0, 0)])
def test_label_of_no_class(c_dim, class_idx):
    with pytest.raises(UserError, match="this network"):
        sampling.class_label(tiny_snapshot.generator(c_dim=c_dim), class_idx, CPU)


def test_pixels_are_truncated_and_clamped():
    class Identity(torch.nn.Module):
        def synthesis(self, ws, noise_mode):
            return ws

    img = torch.tensor([-1.5, -1.0, 0.0, 1 / 127.5 - 1e-3, 0.99, 5.0]).reshape(1, 1, 2, 3)
    assert sampling.synthesize(Identity(), img).tolist() == [[[[0], [0], [128]], [[128], [254], [255]]]]


def test_random_noise_leaves_the_global_generator_alone():
    G = tiny_snapshot.generator()
    before = torch.get_rng_state()
    ws = torch.zeros(2, G.num_ws, G.w_dim)
    first, second = sampling.synthesize(G, ws, "random")
    assert torch.equal(before, torch.get_rng_state())
    assert (first != second).any()
    np.testing.assert_array_equal(sampling.synthesize(G, ws[:1], "random", noise_seeds=[1])[0], second)


def test_batches_cover_everything_in_order():
    assert [list(part) for part in sampling.in_batches(range(5), 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"w": np.zeros([1, 5, 8])}, r"takes w \[N, 6, 8\], got float64 \[1, 5, 8\]"),
        ({"w": np.zeros([6, 8])}, r"takes w \[N, 6, 8\], got float64 \[6, 8\]"),
        ({"w": np.zeros([1, 6, 8], int)}, "got int64"),
        ({"ws": np.zeros([1, 6, 8])}, "no npz file with entry 'w'"),
        ({"w": np.array({"an": "object"})}, "no npz file with entry 'w'"),
        (b"text", "no npz file with entry 'w'"),
        (b"", "no npz file with entry 'w'"),
        (None, "no such file"),
    ],
)
def test_unfit_projections_are_refused(tmp_path, content, said):
    path = tmp_path / "w.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        sampling.load_projected_w(path, tiny_snapshot.generator(), CPU)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
