"""Mutations of every format whose reader is not fuzzed beside its unit tests; see docs/security.md for the list."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics.feature_stats import FeatureStats
from tests.fuzzing import fuzz, num_rounds
from tests.image_files import encode, images, packed_zip, random_image, write_folder, write_zip
from tests.training_runs import new_run, tiny_options, write_dataset
from training import checkpoint
from training.data.archive import open_archive
from training.data.codec import BadImageError, load_image, open_image, require_images
from training.data.labels import read_labels
from training.data.preparation import Preparation
from training.dataset import ImageFolderDataset
from training.inference.projected_w import load_projected_w
from training.run.flags import Flags
from training.run.folder import find_run_dir, find_state
from training.run.launch import prepare_run
from training.run.options_file import OPTIONS_FILE
from training.run.status import STATUS_FILE, read_status
from training.snapshots.finite import nonfinite_tensors

MAX_PX = 1 << 22
"""Limit for images here: those of 64 megapixels take more memory than all tests together should."""


def replaced(path: Path, read):
    """A reader of ``path`` whose content is what it is given."""

    def write_and_read(data: bytes) -> object:
        path.write_bytes(data)
        return read()

    return write_and_read


def read_dataset(path: Path) -> None:
    dataset = ImageFolderDataset(path, use_labels=True)
    for image, label in (dataset[index] for index in range(len(dataset))):
        assert image.dtype == np.uint8
        assert label.dtype == np.float32
    dataset.close()


@pytest.mark.slow
def test_zips(tmp_path, capfd):
    files = images(4, size=(4, 4), mode="L")
    labels = [[name, index % 2] for index, name in enumerate(files)]
    valid = [write(tmp_path / "a.zip", files, labels).read_bytes() for write in (write_zip, packed_zip)]
    path = tmp_path / "images.zip"
    assert fuzz(replaced(path, lambda: read_dataset(path)), valid, num_rounds(1500)) > 500
    assert "\x1b" not in "".join(capfd.readouterr())


def test_labels(tmp_path):
    names = list(images(4))
    folder = write_folder(tmp_path / "images", images(4))
    read = replaced(folder / "dataset.json", lambda: read_labels(archive, require_images(archive)))
    class_numbers = {"labels": [[name, index] for index, name in enumerate(names)], "class_names": ["a", "b", "c", "d"]}
    vectors = {"labels": [[name, [0.5, index, -1e3]] for index, name in enumerate(names)], "resize_filter": "box"}
    (folder / "dataset.json").write_text("{}")
    archive = open_archive(folder)
    assert fuzz(read, [json.dumps(each).encode() for each in (class_numbers, vectors)], num_rounds(1000)) > 300


RGB, GREY = random_image(size=(24, 16)), random_image(size=(24, 16), mode="L")
ENCODED = {
    "png": [encode(RGB), encode(GREY), encode(random_image(mode="RGBA")), encode(RGB.quantize(16), transparency=0)],
    "jpeg": [encode(RGB, "JPEG"), encode(RGB, "JPEG", progressive=True), encode(random_image(mode="CMYK"), "JPEG")],
    "webp": [encode(RGB, "WEBP"), encode(random_image(mode="RGBA"), "WEBP", lossless=True)],
    "tiff": [encode(RGB, "TIFF", compression=name) for name in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg")],
    "others": [encode(RGB, name) for name in ("BMP", "GIF", "PPM", "TGA", "JPEG2000")],
}


@pytest.mark.parametrize("name", ENCODED)
def test_images(name):
    prepare = Preparation(mode="rgb", transform="pad", width_px=8, height_px=8, resize_filter="box")

    def read(data: bytes) -> object:
        try:
            return prepare(load_image(open_image(io.BytesIO(data), MAX_PX)))
        except BadImageError as error:
            raise UserError(str(error)) from error

    num = num_rounds(600)
    assert fuzz(read, ENCODED[name], num) > num / 20


@pytest.fixture
def run_dir(tmp_path):
    options = tiny_options(write_dataset(tmp_path / "images.zip", num=8), total_nimg=1000)
    return new_run(tmp_path / "00000-run", options)


@pytest.mark.slow
def test_options(run_dir):
    flags = Flags(continue_run=str(run_dir), device="cpu", progress="none", dry_run=True)
    read = replaced(run_dir / OPTIONS_FILE, lambda: prepare_run(flags))
    assert fuzz(read, [(run_dir / OPTIONS_FILE).read_bytes()], num_rounds(400)) > 100


def test_status(run_dir):
    status = {"reason": "stopped", "kimg": 0.5, "total_kimg": 1, "name": "run", "host": "h", "pid": 7}

    def read() -> None:
        find_state(run_dir)
        assert find_run_dir("latest", run_dir.parent) == run_dir
        kimg = read_status(run_dir).get("kimg", 0)
        assert f"{kimg:g}"
        assert (kimg < 1) in (True, False)

    fuzz(replaced(run_dir / STATUS_FILE, read), [json.dumps(status).encode()], num_rounds(500))


def test_projected_latents(tmp_path):
    """NumPy compiles the header of an array, of 10 000 characters at most, as a literal."""
    G = SimpleNamespace(num_ws=3, w_dim=4)
    valid = []
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "valid.npz", w=np.random.RandomState(0).randn(2, 3, 4).astype(np.float32))
        valid.append((tmp_path / "valid.npz").read_bytes())
    path = tmp_path / "w.npz"
    num = num_rounds(2000)
    assert (
        fuzz(
            replaced(path, lambda: load_projected_w(path, G, torch.device("cpu"))),
            valid,
            num,
            allowed_events=["compile"],
        )
        > num / 10
    )


@pytest.mark.slow
@pytest.mark.parametrize("kwargs", [{"capture_mean_cov": True}, {"capture_all": True}], ids=["moments", "rows"])
def test_cached_statistics(tmp_path, kwargs):
    stats = FeatureStats(**kwargs)
    stats.append(np.random.RandomState(0).randn(5, 3))
    stats.save(tmp_path / "valid.npz")
    path = tmp_path / "stats.npz"

    def read() -> object:
        try:
            stats = FeatureStats.load(path, **kwargs)
        except ValueError as error:
            raise UserError(str(error).replace(str(path), "")) from error
        return stats.get_all_torch() if stats.capture_all else stats.get_mean_cov()

    num = num_rounds(2000)
    valid = [(tmp_path / "valid.npz").read_bytes()]
    assert fuzz(replaced(path, read), valid, num, allowed_events=["compile"]) > num / 10


class Holder:
    """Something with a state."""

    def __init__(self) -> None:
        self.module = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.Adam(self.module.parameters())
        self.module(torch.ones(3)).sum().backward()
        self.optimizer.step()
        self.counters = {"cur_nimg": 7, "names": ["a", None, 1.5, True]}

    def state_dict(self) -> dict:
        return self.counters

    def load_state_dict(self, state: dict) -> None:
        self.counters = {"cur_nimg": int(state["cur_nimg"]), "names": list(state["names"])}

    def parts(self) -> dict:
        return {"modules/G": self.module, "optimizers/G": self.optimizer, "ranks/counters": self}


@pytest.mark.slow
def test_checkpoints(tmp_path):
    """Also those whose checksum fits, as a stranger would send them."""
    holder = Holder()
    path = checkpoint.save_checkpoint(tmp_path, 7, checkpoint.collect(holder.parts()))
    target = tmp_path / "mutated.safetensors"

    def read() -> object:
        checkpoint.restore(Holder().parts(), checkpoint.load_checkpoint(target))
        return nonfinite_tensors(holder.module)

    num = num_rounds(1000)
    assert fuzz(replaced(target, read), [path.read_bytes()], num) > num / 10
