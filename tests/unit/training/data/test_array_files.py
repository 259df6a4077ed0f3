import gzip
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dnnlib.errors import UserError
from tests.fuzzing import check_memory, fuzz, num_rounds, run_bounded
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
    with pytest.raises(UserError, match=r"cannot be read as CIFAR-10: global '(posix|nt)\.mkdir' is not allowed"):
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
    monkeypatch.setattr(array_files, "MAX_BATCH_BYTES", 10)
    with pytest.raises(UserError, match="data_batch_1 has 11 bytes, at most 10"):
        read_cifar10(write_cifar(tmp_path / "x.tar.gz", [bytes(11)] * 5))


def python_2_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it (protocol 2), which is what the real file holds."""
    dtype = b"cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
    shape = b"M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86"
    data = made + b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<I", images.nbytes) + images.tobytes() + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(U\x0bbatch_labelU\x01xU\x06labels" + numbers + b"U\x04data" + data + b"u."


def test_cifar10_of_python_2(tmp_path):
    batches = cifar_batches(per_batch=300)
    path = write_cifar(tmp_path / "cifar-10-python.tar.gz", [python_2_batch(*batch) for batch in batches])
    images, labels = read_cifar10(path)
    assert np.array_equal(images[301], batches[1][0][1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert labels.tolist() == [label for _, batch in batches for label in batch]


ROW = np.zeros((1, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ([], "a batch is not a dict"),
        ({"labels": [1]}, "a batch holds no array 'data'"),
        ({"data": b"x", "labels": [1]}, "a batch holds no array 'data'"),
        ({"data": ROW.astype(float), "labels": [1]}, r"'data' of a batch must be uint8 \[N, 3072\], got float64"),
        ({"data": ROW[:, :-1], "labels": [1]}, r"got uint8 \[1, 3071\]"),
        ({"data": ROW[0], "labels": [1]}, r"got uint8 \[3072\]"),
        ({"data": ROW}, "'labels' of a batch must be 1 class numbers in 0..9"),
        ({"data": ROW, "labels": [1, 2]}, "'labels'"),
        ({"data": ROW, "labels": [10]}, "'labels'"),
        ({"data": ROW, "labels": [-1]}, "'labels'"),
        ({"data": ROW, "labels": [True]}, "'labels'"),
        ({"data": ROW, "labels": [1.0]}, "'labels'"),
        ({"data": ROW, "labels": [10**400]}, "an integer of 1329 bits"),
        ({"data": np.array([{}]), "labels": [1]}, "not a numeric dtype"),
    ],
)
def test_cifar10_takes_nothing_but_images_and_classes(tmp_path, batch, said):
    with pytest.raises(UserError, match=said) as caught:
        read_cifar10(write_cifar(tmp_path / "x.tar.gz", [pickle.dumps(batch)] * 5))
    assert str(caught.value).isprintable()


ARRAYS_WITHOUT_DATA = {
    "objects over bytes": b"cnumpy\nndarray\n((K\x08tcnumpy\ndtype\n(U\x01OtRC\x10" + bytes(16) + b"tR",
    "uninitialized memory": b"cnumpy\nndarray\n((K\x02M\x00\x0ctU\x02u1tR",
    "a gigabyte": b"cnumpy\nndarray\n((J\x00\x00\x00\x40tU\x02u1tR",
    "never filled": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x02M\x00\x0ctU\x01btR",
}


@pytest.mark.parametrize("kind", ARRAYS_WITHOUT_DATA)
def test_cifar10_makes_no_array_without_data(tmp_path, kind):
    batch = b"\x80\x03}(U\x04data" + ARRAYS_WITHOUT_DATA[kind] + b"U\x06labels](K\x01K\x01eu."
    path = write_cifar(tmp_path / "x.tar.gz", [batch] * 5)

    def read() -> None:
        with pytest.raises(UserError, match="cannot be read as CIFAR-10") as caught:
            read_cifar10(path)
        check_memory(caught.value)

    run_bounded(read, max_bytes=32 << 20)


def test_cifar10_reads_no_further_than_the_last_batch(tmp_path):
    batches = [pickle.dumps({"data": ROW, "labels": [3]})] * 5
    path = write_cifar(tmp_path / "whole.tar.gz", [*batches, bytes(50_000)])
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(path.read_bytes()[:-8])  # without the checksum at the end
    assert len(read_cifar10(cut)[0]) == 5


@pytest.mark.parametrize("prefix", ["", "./"])
def test_cifar10_packed_again(tmp_path, prefix):
    """Other programs put headers of their own, files of the system and folders between the batches."""
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        folder = tarfile.TarInfo(f"{prefix}cifar-10-batches-py")
        folder.type, folder.mtime = tarfile.DIRTYPE, 1.5  # a time that needs an extended header
        tar.addfile(folder)
        for number in (2, 1, 5, 3, 4):
            for name, data in (("._data_batch_1", b"x" * 700), (f"data_batch_{number}", batch(number))):
                info = tarfile.TarInfo(f"{prefix}cifar-10-batches-py/{name}")
                info.size, info.mtime = len(data), 2.5
                tar.addfile(info, io.BytesIO(data))
    assert read_cifar10(tmp_path / "x.tar.gz")[1].tolist() == [1, 2, 3, 4, 5]


def batch(label: int) -> bytes:
    return pickle.dumps({"data": ROW, "labels": [label]})


def test_cifar10_with_a_link_for_a_batch(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(UserError, match="holds no cifar-10-batches-py/data_batch_1"):
        read_cifar10(tmp_path / "x.tar.gz")


def zeros_gz(path: Path, start: bytes, num_bytes: int) -> Path:
    with gzip.open(path, "wb") as file:
        file.write(start)
        for _ in range(num_bytes >> 20):
            file.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("kind", ["cifar", "cifar entries", "mnist", "mnist of single pixels"])
def test_bombs_are_refused(tmp_path, kind):
    header = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    header.size = 39 << 20
    entries = b"".join(tarfile.TarInfo(f"{number}").tobuf() for number in range(2000))
    start, reader = {
        "cifar": (header.tobuf(), read_cifar10),
        "cifar entries": (entries, read_cifar10),
        "mnist": (struct.pack(">4B3I", 0, 0, 8, 3, 100_000, 28, 28), read_mnist),
        "mnist of single pixels": (struct.pack(">4B3I", 0, 0, 8, 3, 40 << 20, 1, 1), read_mnist),
    }[kind]
    path = zeros_gz(tmp_path / "train-images-idx3-ubyte.gz", start, 40 << 20)

    def read() -> None:
        with pytest.raises(UserError) as caught:
            reader(path)
        check_memory(caught.value)

    run_bounded(read, max_bytes=128 << 20)


def test_mnist_has_images_of_28_px(tmp_path):
    for size in ((1, 1), (28, 27), (32, 32)):
        with pytest.raises(UserError, match=f"images of {size[1]}x{size[0]} px; those of MNIST are 28x28"):
            read_mnist(write_mnist(tmp_path, idx(np.zeros((3, *size), np.uint8)), idx(CLASSES)))


def test_entries_of_archives_are_few(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        for number in range(array_files.MAX_TAR_ENTRIES):
            tar.addfile(tarfile.TarInfo(str(number)))
        for number in range(1, 6):
            info = tarfile.TarInfo(f"cifar-10-batches-py/data_batch_{number}")
            info.size = len(batch(number))
            tar.addfile(info, io.BytesIO(batch(number)))
    with pytest.raises(UserError, match="holds no cifar-10-batches-py/data_batch_1"):
        read_cifar10(tmp_path / "x.tar.gz")


def test_what_may_be_unpacked_grows_with_the_file(tmp_path, monkeypatch):
    path = write_mnist(tmp_path, idx(DIGITS), idx(CLASSES))
    monkeypatch.setattr(array_files, "BASE_UNPACKED_BYTES", 0)
    assert len(read_mnist(path)[0]) == 3
    monkeypatch.setattr(array_files, "MAX_RATIO", 1)
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz cannot be read: it unpacks to more|images-idx3"):
        read_mnist(write_mnist(tmp_path, idx(np.zeros_like(DIGITS)), idx(CLASSES)))


@pytest.mark.parametrize("reader", [read_cifar10, read_mnist])
def test_pipes_are_no_files(tmp_path, reader):
    os.mkfifo(tmp_path / "x.gz")
    with pytest.raises(UserError, match="there is no such file"):
        reader(tmp_path / "x.gz")


def test_fuzzed_cifar_archives(tmp_path):
    batches = [pickle.dumps({"data": ROW, b"labels": [3]}, protocol) for protocol in (2, 3, 4, 5)]
    raw = gzip.decompress(write_cifar(tmp_path / "x.tar.gz", [python_2_batch(ROW, [5]), *batches]).read_bytes())

    def read(data: bytes) -> None:
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(data, 1))
        read_cifar10(tmp_path / "x.tar.gz")

    assert fuzz(read, [raw], num_rounds(300)) > 50


def test_fuzzed_gzip_and_idx_files(tmp_path):
    images, labels = gzip.compress(idx(DIGITS)), gzip.compress(idx(CLASSES))

    def read_packed(data: bytes) -> None:
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(data)
        (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(labels)
        read_mnist(tmp_path / "train-images-idx3-ubyte.gz")

    def read_unpacked(data: bytes) -> None:
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(images)
        (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(data))
        read_mnist(tmp_path / "train-images-idx3-ubyte.gz")

    assert fuzz(read_packed, [images], num_rounds(100)) > 20
    assert fuzz(lambda data: read_packed(gzip.compress(data)), [idx(DIGITS)], num_rounds(100)) > 20
    assert fuzz(read_unpacked, [idx(CLASSES)], num_rounds(100)) > 20


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
        (idx(DIGITS), idx(CLASSES[:2]), "3 images, but the file beside it 2 labels"),
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
