import contextlib
import pickle
import sys
import types

import numpy as np
import pytest

from dnnlib.errors import UserError
from tests.image_files import encode, random_image, write_folder, write_zip
from training.data.codec import BadImageError
from training.data.sources import LargeImageError, open_source


class FakeLmdb(types.ModuleType):
    """As much of the package lmdb as reading needs: one database in memory."""

    Error = OSError

    def __init__(self, values):
        super().__init__("lmdb")
        self.values = values

    def open(self, path, readonly, lock):
        assert (readonly, lock) == (True, False)
        return self

    def stat(self):
        return {"entries": len(self.values), "psize": 4096}

    def info(self):
        return {"last_pgno": 1}

    @contextlib.contextmanager
    def begin(self):
        yield types.SimpleNamespace(cursor=lambda: self, get=self.values.get)

    def iternext(self, values):
        return iter(sorted(self.values))


def write_lmdb(folder, num_bytes=8192):
    """A folder in which as much is written as `FakeLmdb` looks at: the size of the file."""
    path = folder / "car_lmdb"
    path.mkdir()
    (path / "data.mdb").write_bytes(bytes(num_bytes))
    return path


def encoded(num_images, **options):
    return {f"key{seed}".encode(): encode(random_image(seed), **options) for seed in range(num_images)}


@pytest.fixture
def open_lmdb(tmp_path, monkeypatch):
    def open_with(values, max_images=None, **options):
        monkeypatch.setitem(sys.modules, "lmdb", FakeLmdb(values))
        return open_source(write_lmdb(tmp_path, **options), max_images)

    return open_with


def read_all(source, max_px=64):
    """Images by name; they are what a process with a copy of the reader reads."""
    read = pickle.loads(pickle.dumps(source.read))
    return {item.name: np.asarray(read(item.key, max_px).image) for item in source.items()}


@pytest.mark.parametrize(("max_images", "num_images"), [(None, 3), (2, 2), (4, 3)])
def test_lsun(open_lmdb, max_images, num_images):
    source = open_lmdb(encoded(3, format="WEBP", lossless=True), max_images)
    assert (source.num_images, source.labels, source.has_files) == (num_images, None, True)
    for seed, (name, image) in enumerate(read_all(source).items()):
        assert name == f"key{seed}"
        assert np.array_equal(image, random_image(seed))


def test_lsun_with_a_damaged_image(open_lmdb):
    source = open_lmdb({**encoded(1), b"key\xff": b"junk"})
    name, key = list(source.items())[1]
    assert name == "key\\xff"
    with pytest.raises(BadImageError, match="is not an image"):
        source.read(key, 64)


def test_lsun_that_is_truncated(open_lmdb):
    """Reading it would kill the process."""
    with pytest.raises(UserError, match=r"data\.mdb has 8191 of 8192 bytes; download it again"):
        open_lmdb(encoded(1), num_bytes=8191)


def test_lsun_that_is_empty(open_lmdb):
    with pytest.raises(UserError, match="the database is empty"):
        open_lmdb({})


def test_lsun_without_lmdb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"LSUN needs the package lmdb: pip install '\.\[lsun\]'"):
        open_source(write_lmdb(tmp_path))


def test_files(tmp_path):
    files = {f"{name}.png": encode(random_image(seed)) for seed, name in enumerate("ab")}
    labels = [["b.png", 1], ["a.png", 0]]
    source = open_source(write_zip(tmp_path / "in.zip", {**files, "c.txt": b"", ".a.png": b""}, labels))
    assert (source.num_images, source.labels.values.tolist(), source.has_files) == (2, [0, 1], True)
    assert sorted(name for names in source.ignored.values() for name in names) == [".a.png", "c.txt"]
    for _ in range(2):
        assert [item.name for item in source.items()] == ["a.png", "b.png"]
    assert np.array_equal(read_all(source)["b.png"], random_image(1))


def test_folders_without_images_are_no_classes(tmp_path):
    files = {"a/a.png": encode(random_image()), "b/b.nef": b"", ".c/c.nef": b"", "__MACOSX/d/d.nef": b"", "e.txt": b""}
    source = open_source(write_folder(tmp_path / "in", files), subfolders_as_labels=True)
    assert source.labels.class_names == ["a"]
    assert source.folders_without_images == ["b"]


def test_folders_beyond_the_maximum_are_not_without_images(tmp_path):
    files = {"a/a.png": encode(random_image()), "b/b.png": encode(random_image()), "b/b.txt": b""}
    source = open_source(write_folder(tmp_path / "in", files), max_images=1, subfolders_as_labels=True)
    assert source.labels.class_names == ["a"]
    assert source.folders_without_images == []


def test_more_pixels_than_allowed(tmp_path):
    source = open_source(write_folder(tmp_path / "in", {"a.png": encode(random_image(size=(8, 9)))}))
    assert read_all(source, max_px=72)["a.png"].shape == (9, 8, 3)
    with pytest.raises(LargeImageError, match="has 8x9 pixels, more than"):
        read_all(source, max_px=71)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nothing", "no such folder or zip"),
        ("cifar-10-python.tar.gz", "no such file or folder"),
        ("car_lmdb", "no such file or folder"),
        ("", "no image files found"),
    ],
)
def test_what_cannot_be_opened(tmp_path, name, complaint):
    with pytest.raises(UserError, match=complaint):
        open_source(tmp_path / name)


def test_arrays_have_no_subfolders(tmp_path):
    with pytest.raises(UserError, match="has no subfolders of images"):
        open_source(write_lmdb(tmp_path), subfolders_as_labels=True)


def test_files_that_cannot_be_read_are_named_if_there_are_no_others(tmp_path):
    write_folder(tmp_path / "photos", {"a.heic": b"", "b.nef": b"", "._c.jpg": b""})
    with pytest.raises(
        UserError, match=r"no image files found; 1 hidden \(\._c\.jpg\); 2 not a supported .*; HEIC needs pip"
    ):
        open_source(tmp_path / "photos")
