"""``load`` and what it returns: the pixels of the formulas, labels, files, mistakes."""

import errno
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import package
from package import modules
from tests import tiny_snapshot
from tests.helpers import REPOSITORY


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Our generators and those that ``load`` makes of their files, by number of classes."""
    folder = tmp_path_factory.mktemp("snapshots")
    pairs = {}
    for c_dim in (0, 3):
        G = tiny_snapshot.write(folder / f"{c_dim}.pkl", c_dim)
        pairs[c_dim] = (G, package.load(folder / f"{c_dim}.pkl", device="cpu"))
    return pairs


def expected(G, seed, c, psi=1.0):
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim)).float()
    return tiny_snapshot.pixels(G(z, c, truncation_psi=psi, noise_mode="const"))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_images_of_seeds(snapshots, batch_size):
    G, generator = snapshots[0]
    images = generator.sample([3, 1, 4], truncation=0.6, batch_size=batch_size)
    assert (images.shape, images.dtype) == ((3, 16, 16, 3), np.uint8)
    for image, seed in zip(images, [3, 1, 4], strict=True):
        difference = image.astype(int) - expected(G, seed, None, 0.6)
        assert abs(difference).max() <= (0 if batch_size == 1 else 1)  # a last bit may turn a rounding


@pytest.mark.parametrize("labels", [2, [2, 2], np.array([2, 2]), np.eye(3)[[2, 2]]])
def test_labels(snapshots, labels):
    G, generator = snapshots[3]
    images = generator.sample(range(2), labels=labels)
    for seed in range(2):
        np.testing.assert_array_equal(images[seed], expected(G, seed, torch.eye(3)[[2]]))


def test_each_image_has_its_own_label(snapshots):
    G, generator = snapshots[3]
    images = generator.sample([7, 7], labels=[0, 1], batch_size=2)
    for image, label in zip(images, [0, 1], strict=True):
        difference = image.astype(int) - expected(G, 7, torch.eye(3)[[label]])
        assert abs(difference).max() <= 1


def test_labels_of_no_width(snapshots):
    images = snapshots[0][1].sample(range(2), labels=np.zeros([2, 0]))
    np.testing.assert_array_equal(images, snapshots[0][1].sample(range(2)))


def test_no_seeds(snapshots):
    assert snapshots[0][1].sample([]).shape == (0, 16, 16, 3)
    assert snapshots[3][1].sample([], labels=[]).shape == (0, 16, 16, 3)


def test_parts(snapshots):
    G, generator = snapshots[3]
    z, c = torch.randn(2, 8), torch.eye(3)[:2]
    ws = generator.mapping(z, c)
    torch.testing.assert_close(ws, G.mapping(z, c), rtol=0, atol=0)
    torch.testing.assert_close(
        generator.synthesis(ws, noise_mode="const"), G.synthesis(ws, noise_mode="const"), rtol=0, atol=0
    )
    assert generator.resolution == 16


def test_save_and_from_pretrained(snapshots, tmp_path):
    _, generator = snapshots[3]
    generator.save(tmp_path / "saved")
    (tmp_path / "saved/README.md").write_text("written by hand")
    generator.save(tmp_path / "saved")
    assert (tmp_path / "saved/README.md").read_text() == "written by hand"
    loaded = package.from_pretrained(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(loaded.sample([5], labels=1), generator.sample([5], labels=1))


def test_card_of_a_folder(snapshots, tmp_path):
    snapshots[3][1].save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: mscond\n")
    assert "| images | 16 x 16 px, 3 channels |" in card
    assert "labels=0" in card
    assert "license:" not in card


def test_a_trusted_snapshot_finds_our_classes_below_the_package(tmp_path):
    G = tiny_snapshot.write(tmp_path / "tiny.pkl")
    generator = package.load(tmp_path / "tiny.pkl", device="cpu", trusted=True)
    np.testing.assert_array_equal(generator.sample([1])[0], expected(G, 1, None))
    assert type(generator.network) is not type(G)


@pytest.mark.parametrize(
    ("c_dim", "arguments", "message"),
    [
        (0, {"seeds": [-1]}, "seeds: -1 is not from 0 to 4294967295"),
        (0, {"seeds": [2**32]}, "seeds: 4294967296 is not"),
        (0, {"seeds": [0], "labels": 0}, "labels: got 0 to 0, this network has no classes"),
        (3, {"seeds": [0]}, "labels: this network needs a class from 0 to 2"),
        (3, {"seeds": [0], "labels": 3}, "labels: got 3 to 3, this network has classes 0 to 2"),
        (3, {"seeds": [0, 1], "labels": [0]}, "labels: got shape .1, 3., expected 2 classes or .2, 3."),
        (3, {"seeds": [0], "labels": [[0.5, 0.5]]}, "labels: got shape .1, 2."),
        (0, {"seeds": [0], "batch_size": 0}, "batch_size"),
        *[(0, {"seeds": seeds}, "seeds: give a list of whole numbers, not") for seeds in ([1.7], ["3"], 5, None)],
        *[(0, {"seeds": [0], "truncation": psi}, f"truncation: got {psi}") for psi in (math.nan, math.inf)],
        *[(3, {"seeds": [0], "labels": [[x, 0, 0]]}, "labels: they contain") for x in (math.nan, math.inf, 1e300)],
    ],
)
def test_mistakes(snapshots, c_dim, arguments, message):
    with pytest.raises(ValueError, match=message):
        snapshots[c_dim][1].sample(**arguments)


def test_no_such_file():
    with pytest.raises(ValueError, match="no such file: nothing"):
        package.load("nothing.pkl")


def test_a_name_that_no_file_can_have():
    with pytest.raises(ValueError, match="File name too long") as caught:
        package.load("x" * 300, device="cpu")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """The error is that of the system, since the superuser of a container may read everything."""

    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "locked.pkl").touch()
    monkeypatch.setitem(modules._BUILTINS, "open", refuse)
    with pytest.raises(ValueError, match=r"Permission denied: .*locked\.pkl"):
        package.load(tmp_path / "locked.pkl", device="cpu")


def test_no_such_device():
    with pytest.raises(ValueError, match=r"^device='tpu': give 'auto', 'cpu', 'cuda' or 'mps'$"):
        package.load("nothing.pkl", device="tpu")


def test_importing_does_not_wait_for_torch():
    code = "import sys, package, package.command; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
