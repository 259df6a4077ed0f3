import io
import os
import warnings
import zipfile

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from tests import tiny_snapshot
from tests.image_files import LFS_POINTER
from training.inference.projected_w import load_projected_w

CPU = torch.device("cpu")


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
        load_projected_w(path, tiny_snapshot.generator(), CPU)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_projections_are_read(dtype, save, tmp_path):
    w = np.random.RandomState(0).randn(3, 6, 8).astype(dtype)
    save(tmp_path / "w.npz", w=np.asfortranarray(w))
    loaded = load_projected_w(tmp_path / "w.npz", tiny_snapshot.generator(), CPU)
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
            load_projected_w(tmp_path / "w.npz", G, CPU)


def test_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "w.npz")
    with pytest.raises(UserError, match="no such file"):
        load_projected_w(tmp_path / "w.npz", tiny_snapshot.generator(), CPU)


def test_projections_that_git_did_not_fetch(tmp_path):
    (tmp_path / "w.npz").write_bytes(LFS_POINTER)
    with pytest.raises(UserError, match=r"w\.npz is a Git LFS pointer, whose file comes by git lfs pull, not an npz"):
        load_projected_w(tmp_path / "w.npz", tiny_snapshot.generator(), CPU)
