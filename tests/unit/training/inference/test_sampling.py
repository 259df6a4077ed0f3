import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from training.inference import sampling

CPU = torch.device("cpu")


def test_latents_are_those_of_the_seeds():
    G = tiny_snapshot.generator()
    ws = sampling.map_seeds(G, [4, 2**32 - 1], sampling.class_label(G, None, CPU), truncation_psi=0.5)
    for i, seed in enumerate([4, 2**32 - 1]):
        z = torch.from_numpy(np.random.RandomState(seed).randn(1, 8)).float()
        torch.testing.assert_close(ws[i : i + 1], G.mapping(z, None, truncation_psi=0.5))


def test_w_comes_without_the_copies_for_all_layers():
    G = tiny_snapshot.generator(c_dim=2)
    label = sampling.class_label(G, 1, CPU)
    z = np.random.RandomState(0).randn(3, 8)
    w = sampling.map_to_w(G, z, label)
    torch.testing.assert_close(w, sampling.map_z(G, z, label)[:, 0])
    assert w.untyped_storage().nbytes() == 3 * 8 * 4


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


def test_truncation_is_checked_only_if_asked_for():
    G = tiny_snapshot.generator()
    sampling.check_truncation(G, 0.5)
    for damage in (float("nan"), float("inf")):
        G.mapping.w_avg[3] = damage
        sampling.check_truncation(G, 1)
        with pytest.raises(UserError, match=r"w_avg\) is not finite.* use --trunc=1, not 0\.5"):
            sampling.check_truncation(G, 0.5)
    del G.mapping.w_avg
    sampling.check_truncation(G, 1)
    with pytest.raises(UserError, match=r"no average w to truncate towards: use --trunc=1, not 0\.5"):
        sampling.check_truncation(G, 0.5)


def test_images_that_are_not_finite_are_refused():
    G = tiny_snapshot.generator()
    with pytest.raises(UserError, match="not finite"):
        sampling.synthesize(G, torch.full([1, G.num_ws, G.w_dim], float("nan")))


def test_samples_continue_one_stream(monkeypatch):
    G = tiny_snapshot.generator(c_dim=2)
    label = sampling.class_label(G, 1, CPU)
    z = torch.from_numpy(np.random.RandomState(5).randn(7, 8)).float()
    expected = G.mapping(z, label.repeat(7, 1))[:, 0]
    monkeypatch.setattr(sampling, "_MAPPING_BATCH", 3)
    torch.testing.assert_close(sampling.sample_w(G, label, 7, 5), expected)
