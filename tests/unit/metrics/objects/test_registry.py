import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.file_content import sha256_of
from metrics import nanodet
from metrics.objects import nanodet_detector, registry
from metrics.objects.nanodet_detector import best_boxes
from metrics.objects.registry import default_object_detector, load_object_detector
from metrics.objects.torchvision_detector import check_name
from tests.unit.metrics import tiny


def test_the_default_suits_the_images(real):
    assert default_object_detector(real) == "nanodet"
    tiny.Path(real.path, "objects.json").write_text(json.dumps({"objects": {}}))
    assert default_object_detector(real) == "scenes"


def test_refuses_unknown_names():
    with pytest.raises(
        UserError, match=r"no object detector 'yolo\\n': --object-detector takes scenes, nanodet, torch"
    ):
        load_object_detector("yolo\n")


@pytest.mark.parametrize(
    ("name", "package", "advice"),
    [("torchvision:fcos", "torchvision", r".*\[objects\]'$"), ("x.onnx", "onnxruntime", r".*\[onnx\]'$")],
)
def test_missing_packages_are_one_line(tmp_path, name, package, advice, monkeypatch):
    (tmp_path / "x.onnx").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"^{name} needs package {package}: pip install {advice}"):
        load_object_detector(name)


def test_boxes_are_chosen_by_score_and_overlap():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40]])
    scores = torch.tensor([[0.3, 0.9], [0.6, 0.01], [0.04, 0.02]])
    found = best_boxes(scores, boxes)
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 9]]


def test_nanodet_boxes_are_in_pixels_of_the_image(monkeypatch):
    seen = []

    def net(x):
        seen.append(list(x.shape))
        scores = torch.zeros(len(x), 2, 80)
        scores[:, 0, 2] = 0.9
        return scores, torch.tensor([[[0.0, 104, 416, 500], [0, 0, 1, 1]]]).expand(len(x), -1, -1)

    found = nanodet_detector.NanoDetDetector(net).detect(torch.zeros(5, 3, 64, 128, dtype=torch.uint8))
    assert seen == [[4, 3, 416, 416], [1, 3, 416, 416]]
    assert [one.boxes.tolist() for one in found] == [[[0, 16, 128, 64]]] * 5
    assert registry.NanoDetDetector.categories[int(found[0].labels[0])] == "car"


def test_nanodet_by_name(tmp_path, monkeypatch):
    path = tmp_path / "nanodet.bin"
    path.write_bytes((np.random.RandomState(0).randn(nanodet._NUM_BYTES // 2) * 0.03).astype("<f2").tobytes())
    (tmp_path / "nanodet.bin.sha256").write_text(sha256_of(path))  # a pin of the user's own
    detector = load_object_detector("nanodet", folder=str(tmp_path))
    assert (detector.name, len(detector.categories)) == ("nanodet", 80)
    assert detector.sha256 == sha256_of(path)
    assert load_object_detector("nanodet", folder=str(tmp_path)) is detector


class Model(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        (image,) = images
        assert image.max() <= 1
        return [{"boxes": self.scale * torch.tensor([[0.0, 0, 1, 1], [1, 1, 3, 3]]), "scores": torch.tensor([0.2, 0.8]),
                 "labels": torch.tensor([1, 2])}]  # fmt: skip


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    """A stand-in for the package; the weights are in ``tmp_path``."""
    path = tmp_path / "fcos_coco.pth"
    torch.save({"scale": torch.full([1], 2.0)}, path)
    sha256 = sha256_of(path)
    path = path.rename(tmp_path / f"fcos_coco-{sha256[:8]}.pth")
    meta = {"categories": ["__background__", "cat", "dog"]}
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url=f"https://example.com/{path.name}", meta=meta))
    models = SimpleNamespace(
        detection=None,
        list_models=lambda module: ["fcos", "maskrcnn"],
        get_model_weights=lambda name: weights,
        get_model=lambda name, weights, weights_backbone, num_classes: Model(num_classes),
    )
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    return tmp_path, sha256


def test_torchvision_models(torchvision):
    folder, sha256 = torchvision
    detector = load_object_detector("torchvision:fcos", folder=str(folder))
    assert (detector.name, detector.sha256) == ("torchvision:fcos", sha256)
    (found,) = detector.detect(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
    assert found.boxes.tolist() == [[2, 2, 6, 6], [0, 0, 2, 2]]  # best first, with the weights of the file
    assert [detector.categories[label] for label in found.labels] == ["dog", "cat"]


def test_torchvision_models_that_are_no_object_detectors(torchvision):
    with pytest.raises(UserError, match=r"torchvision has no object detector 'maskrcnn': choose from fcos$"):
        load_object_detector("torchvision:maskrcnn", folder=str(torchvision[0]))


def test_weights_must_have_the_checksum_in_their_name():
    check_name("https://example.com/fcos-0123abcd.pth", "0123abcd" + 56 * "0")
    with pytest.raises(UserError, match=r"fcos-0123abcd.pth has the sha256 9999.*should begin with 0123abcd"):
        check_name("https://example.com/fcos-0123abcd.pth", 64 * "9")


class Session:
    """A stand-in for a program that finds one object in the lower right quarter."""

    metadata = {"categories": "sky, car"}
    outputs = ("labels", "boxes", "scores", "more")
    input_shape = (1, 3, "height", 32)
    labels = (1, 0)

    def __init__(self, path, providers):
        assert providers == ["CPUExecutionProvider"]

    def get_modelmeta(self):
        return SimpleNamespace(custom_metadata_map=self.metadata)

    def get_inputs(self):
        return [SimpleNamespace(name="image", shape=list(self.input_shape))]

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in self.outputs]

    def run(self, names, inputs):
        image = inputs["image"]
        assert (image.dtype, image.shape[0], round(float(image.max()), 5) in (0, 1)) == (np.float32, 1, True)
        height, width = image.shape[2:]
        boxes = np.array([[0, 0, 1, 1], [width / 2, height / 2, width, height]], np.float32)
        values = {"boxes": boxes, "scores": np.array([0.5, 0.75], np.float32), "labels": np.array(self.labels)}
        return [values[name] for name in names]


@pytest.fixture
def onnx(monkeypatch, tmp_path):
    """A file that the stand-in for onnxruntime can run."""
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    path = tmp_path / "net.onnx"
    path.write_bytes(b"program")
    return str(path)


@pytest.mark.parametrize("shape", [(1, 3, "height", "width"), (1, 3, 16, 16)])
def test_onnx_programs(onnx, shape, monkeypatch):
    monkeypatch.setattr(Session, "input_shape", shape)
    detector = load_object_detector(onnx)
    assert (detector.name, detector.categories) == ("net.onnx", ("sky", "car"))
    found = detector.detect(torch.full((2, 3, 8, 24), 255, dtype=torch.uint8))[1]
    assert found.boxes[0].tolist() == [12, 4, 24, 8]
    assert (found.labels.tolist(), found.scores.tolist()) == ([0, 1], [0.75, 0.5])


@pytest.mark.parametrize(
    ("name", "value"), [("metadata", {}), ("outputs", ("boxes", "scores")), ("input_shape", (3, 8, 8))]
)
def test_onnx_programs_of_another_form(onnx, name, value, monkeypatch):
    monkeypatch.setattr(Session, name, value)
    with pytest.raises(UserError, match=r"net.onnx: an ONNX detector has one input \[1, 3, H, W\], the outputs boxes"):
        load_object_detector(onnx)


def test_categories_cannot_act_on_a_terminal(onnx, monkeypatch):
    monkeypatch.setattr(Session, "metadata", {"categories": "a\x1b[2J,b"})
    with pytest.raises(UserError, match=r"net.onnx: its metadata 'categories' are 'a\\x1b\[2J,b', not names of"):
        load_object_detector(onnx)
    monkeypatch.setattr(Session, "metadata", {"categories": "stra\u00dfe, b"})
    assert load_object_detector(onnx).categories == ("stra\u00dfe", "b")


def test_labels_need_a_category(onnx, monkeypatch):
    monkeypatch.setattr(Session, "labels", (1, 2))
    with pytest.raises(UserError, match="or labels beyond its 2 categories"):
        load_object_detector(onnx).detect(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_missing_onnx_files(onnx):
    with pytest.raises(UserError, match=r"--object-detector=absent.onnx: there is no such file"):
        load_object_detector("absent.onnx")
