import gzip
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file

from dnnlib.errors import UserError
from tests.image_files import encode, random_image
from tests.malicious_pickles import STOP, call, name, put
from training.checkpoint import save_checkpoint
from training.snapshots.load import load_networks
from training.snapshots.other_files import describe_other_file, is_pickle


def saved(save, *args) -> bytes:
    buffer = io.BytesIO()
    save(*args, buffer)
    return buffer.getvalue()


def zipped(entry: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, b"x")
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("snapshot.pkl"))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(3))
    return buffer.getvalue()


def script(buffer: io.BytesIO) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
WEIGHTS = {"mapping.w_avg": torch.zeros(3)}

FILES = {
    "an empty file": b"",
    "a PNG image": encode(random_image()),
    "a JPEG image": encode(random_image(), "JPEG"),
    "a WebP image": encode(random_image(), "WEBP"),
    "a GIF image": encode(random_image(mode="L"), "GIF"),
    "a TIFF image": encode(random_image(), "TIFF"),
    "a BMP image": encode(random_image(), "BMP"),
    "a JPEG 2000 image": encode(random_image(), "JPEG2000"),
    "a JPEG XL image": b"\xff\x0a\x7f\x00",
    "an icon (ICO)": encode(random_image(), "ICO"),
    "a Photoshop file": b"8BPS\0\1" + bytes(6) + b"\0\3",
    "a WAV sound": b"RIFF\x26\0\0\0WAVEfmt ",
    "a GGUF file": b"GGUF\3\0\0\0" + bytes(16),
    "an SQLite database": b"SQLite format 3\0\x10\0",
    "a text file in UTF-16": "\ufeffMsConD".encode("utf-16-be"),
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3",
    "a video": b"\0\0\0\x20ftypisom\0\0\2\0",
    "a Git LFS pointer": LFS,
    "a gzip file": gzip.compress(pickle.dumps({})),
    "a tar archive": tar(),
    "a NumPy archive": npz(),
    "a zip file of images": zipped("00000/img00000000.png"),
    "a zip file of weights": saved(torch.save, WEIGHTS),
    "a zip file": zipped("README"),
    "weights as torch.save": saved(lambda file: torch.save(WEIGHTS, file, _use_new_zipfile_serialization=False)),
    "a safetensors file": safetensors.torch.save(WEIGHTS),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n",
    "an ONNX program": b"\x08\x0a\x12\x07pytorch\x1a\x062.13.0",
    "a web page": b"\n<!DOCTYPE html>\n<html><body>404</body></html>",
    "a JSON file": json.dumps({"class_name": "training.networks.Generator"}).encode(),
    "a text file": b"# MsConD\n\nA **method**, also for caf\xc3\xa9s.\n" * 200,
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("trusted", [False, True])
def test_files_are_told_for_what_they_are(kind, trusted):
    with pytest.raises(UserError) as caught:
        load_networks(io.BytesIO(FILES[kind]), trusted=trusted)
    text = str(caught.value)
    assert text.startswith(f"snapshot: not a snapshot but {kind}")
    assert text.isprintable()
    assert "trust" not in text


def test_torchscript_and_lists_of_numbers():
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        program = saved(script)
    assert "a zip file of weights or a program" in describe_other_file(io.BytesIO(program))
    assert "a JSON file" in describe_other_file(io.BytesIO(b"[1, 2]"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\xff\x4f\xff\x51\0\x2f", "a JPEG 2000 image"),
        ("\ufeffMsConD".encode("utf-16-le"), "a text file in UTF-16"),
        (b"BM: a benchmark", "a text file;"),
    ],
)
def test_other_beginnings(data, kind):
    assert str(describe_other_file(io.BytesIO(data))).startswith(kind)


def test_half_a_character_at_the_end_of_what_is_looked_at():
    assert describe_other_file(io.BytesIO(b"x" + "\u00e9".encode() * 5000)).startswith("a text file")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_nothing_else(protocol):
    for value in ({"G": 1}, [1, 2], "text\n", 1, b"bytes"):
        file = io.BytesIO(b"before" + pickle.dumps(value, protocol))
        file.seek(6)
        assert describe_other_file(file) is None
        assert is_pickle(file)
        assert file.tell() == 6


@pytest.mark.parametrize("data", [b"cposix\nsystem\n(S'touch'\ntR.", call(name("os", "getcwd")) + STOP, put([]) + b"."])
def test_pickles_without_a_header_are_pickles(data):
    assert describe_other_file(io.BytesIO(data)) is None
    assert is_pickle(io.BytesIO(data))


@pytest.mark.parametrize("data", [b"", b".", b"junk", b"\x89\x50", b"N" * 10, b"N0N.", bytes(range(256))])
def test_what_is_no_pickle(data):
    assert is_pickle(io.BytesIO(data)) == (data == b"N0N.")


def test_trust_is_not_asked_for_what_is_no_pickle():
    with pytest.raises(UserError, match="snapshot: not a pickle; give a network snapshot"):
        load_networks(io.BytesIO(b"\x89P\x00\x01\n junk"))


def test_a_checkpoint_is_told_from_weights(tmp_path):
    path = save_checkpoint(tmp_path, 7, {"num_gpus": 1, "weight": torch.zeros(1)})
    with open(path, "rb") as file:
        assert str(describe_other_file(file)).startswith("a checkpoint of a run, which train.py --continue reads")
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with open(tmp_path / "model.safetensors", "rb") as file:
        assert str(describe_other_file(file)).startswith("a safetensors file")


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01", b"\x1aE\xdf\xa3", b"\0" * 100, b"fLaC\0\0\0\x22"])
def test_what_is_unknown_is_not_called_a_damaged_pickle(data):
    with pytest.raises(UserError, match="snapshot: not a pickle; give a network snapshot"):
        load_networks(io.BytesIO(data))
