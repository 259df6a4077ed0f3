import os
import pickle

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.image_files import CLASSES, DIGITS, cifar_batches, idx, write_cifar, write_mnist
from training.data import array_files
from training.data.array_files import read_cifar10, read_mnist


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("keys", [("data", "labels"), (b"data", b"labels")])
def test_cifar10(tmp_path, protocol, keys):
    batches = cifar_batches()
    pickles = [pickle.dumps(dict(zip(keys, batch, strict=True)), protocol) for batch in batches]
    images, labels = read_cifar10(write_cifar(tmp_path / "cifar-10-python.tar.gz", pickles))
    assert (images.shape, images.dtype, labels.dtype) == ((10, 32, 32, 3), np.uint8, np.int64)
    assert labels.tolist() == [label for _, batch in batches for label in batch]
    planes = batches[1][0][1].reshape(3, 32, 32)
    assert np.array_equal(images[3, :, :, 2], planes[2])


class Harm:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar10_runs_nothing(tmp_path, protocol):
    batch = {"data": Harm(tmp_path / "canary"), "labels": []}
    path = write_cifar(tmp_path / "x.tar.gz", [pickle.dumps(batch, protocol)] * 5)
    with pytest.raises(UserError, match=r"cannot be read as CIFAR-10: its pickle asks for (posix|nt)\.mkdir"):
        read_cifar10(path)
    assert not (tmp_path / "canary").exists()


def test_cifar10_encodes_nothing_but_latin1(tmp_path):
    harm = b"c_codecs\nencode\n(Vx\nVrot13\ntR."
    with pytest.raises(UserError, match="text encoding 'rot13' is not allowed"):
        read_cifar10(write_cifar(tmp_path / "x.tar.gz", [harm] * 5))


@pytest.mark.parametrize("pickles", [[], [b""] * 5, [b"junk"] * 5, [pickle.dumps({"data": np.zeros(5)})] * 5])
def test_cifar10_damaged(tmp_path, pickles):
    with pytest.raises(UserError, match=r"x\.tar\.gz cannot be read as CIFAR-10") as caught:
        read_cifar10(write_cifar(tmp_path / "x.tar.gz", pickles))
    assert "\n" not in str(caught.value)


def test_cifar10_refuses_huge_members(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(UserError, match="plausible size"):
        read_cifar10(write_cifar(tmp_path / "x.tar.gz", [bytes(11)] * 5))


def test_mnist_is_padded_to_32(tmp_path):
    images, labels = read_mnist(write_mnist(tmp_path, idx(DIGITS), idx(CLASSES)))
    assert (images.shape, images.dtype, labels.dtype) == ((3, 32, 32), np.uint8, np.int64)
    assert np.array_equal(images[:, 2:-2, 2:-2], DIGITS)
    assert images.sum(dtype=int) == DIGITS.sum(dtype=int)
    assert labels.tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (idx(DIGITS)[:-1], idx(CLASSES), "images.* or it is truncated"),
        (idx(DIGITS), idx(CLASSES)[:-1], "labels.* or it is truncated"),
        (idx(DIGITS) + b"x", idx(CLASSES), "images.* not an IDX file"),
        (idx(CLASSES), idx(CLASSES), "images.* not an IDX file of bytes with 3 dimensions"),
        (b"", idx(CLASSES), "images.* not an IDX file"),
        (idx(DIGITS), idx(CLASSES[:2]), "3 images, but there are 2 labels"),
    ],
)
def test_mnist_damaged(tmp_path, images, labels, reason):
    with pytest.raises(UserError, match=reason):
        read_mnist(write_mnist(tmp_path, images, labels))


def test_mnist_without_labels(tmp_path):
    path = write_mnist(tmp_path, idx(DIGITS), idx(CLASSES))
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz cannot be read"):
        read_mnist(path)


def test_mnist_not_gzipped(tmp_path):
    path = write_mnist(tmp_path, idx(DIGITS), idx(CLASSES))
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read"):
        read_mnist(path)
