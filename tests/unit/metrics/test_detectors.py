import hashlib
import warnings

import pytest
import torch

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
    get_detector,
)
from metrics.weights import weights_sha256


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


def test_what_is_no_torchscript_is_refused_in_one_line(tmp_path):
    torch.save({}, tmp_path / "weights.pt")
    for content in (None, b"", b"text"):
        if content is not None:
            (tmp_path / "weights.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"weights\.pt is not a TorchScript file, or it is damaged") as caught:
            detectors.load_torchscript(tmp_path / "weights.pt")
        assert "\n" not in str(caught.value)


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
    assert weights_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
