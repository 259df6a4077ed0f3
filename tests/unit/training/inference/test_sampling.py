import io
import os
import warnings
import zipfile

import numpy as np
import pytest
import torch

from dnnlib.util import UserError
from tests import tiny_snapshot
from tests.image_files import LFS_POINTER
from training.inference import sampling
from training.snapshots.portable import save_portable

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


def test_grids_are_limited_by_their_sides_and_their_area():
    for size in ((64, 16), (16, 64), (1, 64), (32, 32)):
        sampling.check_grid(*size, 1024)
    for columns, rows in ((65, 1), (1, 65), (64, 17), (17, 64), (33, 32)):
        said = f"a grid of {columns} x {rows} images of 1024 px is too large: a side may have 65536 px, and all of it"
        with pytest.raises(UserError, match=f"^{said} 1073741824 px$"):
            sampling.check_grid(columns, rows, 1024)


def test_batches_cover_everything_in_order():
    assert [list(part) for part in sampling.in_batches(range(5), 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"w": np.zeros([1, 5, 8])}, r"takes floats w \[N, 6, 8\], the file has 'float64' \[1, 5, 8\]"),
        ({"w": np.zeros([6, 8])}, r"takes floats w \[N, 6, 8\], the file has 'float64' \[6, 8\]"),
        ({"w": np.zeros([0, 6, 8])}, r"the file has 'float64' \[0, 6, 8\]"),
        ({"w": np.zeros([1, 6, 8], int)}, "the file has 'int64'"),
        ({"w": np.zeros([1, 6, 8], [("\x1b[2J", float)])}, "the file has 'void"),
        ({"w": np.array({"an": "object"})}, "the file has 'object'"),
        ({"w": np.full([1, 6, 8], np.inf)}, "w contains values that are not finite"),
        ({"w": np.full([1, 6, 8], 1e300)}, "w contains values that are not finite"),
        ({"ws": np.zeros([1, 6, 8])}, "not an npz file with an array 'w'"),
        (b"text", "not an npz file with an array 'w'"),
        (b"", "not an npz file with an array 'w'"),
        (None, "no such file"),
    ],
)
def test_unfit_projections_are_refused(tmp_path, content, said):
    path = tmp_path / "w.npz"
    if isinstance(content, dict):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            np.savez(path, **content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        sampling.load_projected_w(path, tiny_snapshot.generator(), CPU)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_projections_are_read(dtype, save, tmp_path):
    w = np.random.RandomState(0).randn(3, 6, 8).astype(dtype)
    save(tmp_path / "w.npz", w=np.asfortranarray(w))
    loaded = sampling.load_projected_w(tmp_path / "w.npz", tiny_snapshot.generator(), CPU)
    assert torch.equal(loaded, torch.from_numpy(w.astype(np.float32)))


def write_header(path, shape):
    """An npz of a few hundred bytes whose header promises an array of this shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", header.getvalue() + b"\0" * 100)


def test_a_file_that_promises_more_than_it_has_takes_no_memory(tmp_path):
    G = tiny_snapshot.generator()
    for num, said in (
        (2**40, "MiB, the limit is 512; split it into files"),
        (1000, "not an npz file with an array 'w'"),
    ):
        write_header(tmp_path / "w.npz", (num, 6, 8))
        with pytest.raises(UserError, match=said):
            sampling.load_projected_w(tmp_path / "w.npz", G, CPU)


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "w.npz")
    with pytest.raises(UserError, match="no such file"):
        sampling.load_projected_w(tmp_path / "w.npz", tiny_snapshot.generator(), CPU)


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


def test_a_network_comes_with_its_training_set(tmp_path):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    G, training_set_kwargs = sampling.load_network(str(tmp_path / "snapshot.pkl"))
    assert training_set_kwargs == tiny_snapshot.DATASET
    save_portable(tmp_path / "exported", G)
    G, training_set_kwargs = sampling.load_network(str(tmp_path / "exported"))
    assert training_set_kwargs is None
    assert not G.training


def test_images_that_are_not_finite_are_refused():
    G = tiny_snapshot.generator()
    with pytest.raises(UserError, match="not finite"):
        sampling.synthesize(G, torch.full([1, G.num_ws, G.w_dim], float("nan")))


def test_projections_that_git_did_not_fetch(tmp_path):
    (tmp_path / "w.npz").write_bytes(LFS_POINTER)
    with pytest.raises(UserError, match=r"w\.npz is a Git LFS pointer, whose file comes by git lfs pull, not an npz"):
        sampling.load_projected_w(tmp_path / "w.npz", tiny_snapshot.generator(), CPU)
