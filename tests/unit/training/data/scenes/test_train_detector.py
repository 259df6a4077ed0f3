import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dnnlib.errors import UserError
from metrics.objects.accuracy import TrueObjects
from metrics.objects.scene_detector import CATEGORIES, WEIGHTS, load_scene_net
from training.data.scenes import evaluate_detector, train_detector
from training.data.scenes.objects import DRAW
from training.data.scenes.train_detector import Scenes, calibrate, draw_scenes, save_weights, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(24, seed=5)


def weights(net):
    return torch.cat([value.flatten().float() for value in net.state_dict().values()])


def test_categories_are_those_that_are_drawn():
    assert sorted(DRAW) == list(CATEGORIES)


def test_the_seed_determines_the_weights(scenes, monkeypatch):
    monkeypatch.setattr(train_detector, "REPORT_STEPS", 2)
    first, last = train(scenes, 4, seed=1)
    again = list(train(scenes, 4, seed=1))
    *_, other = train(scenes, 4, seed=2)
    assert torch.equal(weights(again[0]), weights(first))
    assert torch.equal(weights(again[1]), weights(last))
    assert not torch.equal(weights(first), weights(last))
    assert not torch.equal(weights(other), weights(last))


def test_the_learning_rate_rises_stays_and_falls(scenes, monkeypatch):
    monkeypatch.setattr(train_detector, "WARMUP_STEPS", 2)
    rates = []
    step = torch.optim.AdamW.step

    def step_and_note(self, *args):
        rates.append(self.param_groups[0]["lr"] / train_detector.LR)
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step_and_note)
    list(train(scenes, 8, seed=0))
    assert rates == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_training_reduces_the_loss(scenes, monkeypatch):
    monkeypatch.setattr(train_detector, "WARMUP_STEPS", 1)
    losses = []
    loss_of = train_detector.detection_loss
    monkeypatch.setattr(train_detector, "detection_loss", lambda *args: losses.append(loss := loss_of(*args)) or loss)
    list(train(scenes, 12, seed=0))
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


def test_mirrored_images_have_mirrored_boxes():
    """Bright rectangles on black: where the boxes are, also after brightness and contrast have changed."""
    images = torch.zeros(24, 3, 64, 64, dtype=torch.uint8)
    objects = []
    for i in range(24):
        images[i, :, 10:20, i : i + 8] = 200
        objects.append(TrueObjects(torch.tensor([[float(i), 10, i + 8, 20]]), torch.tensor([2])))
    ((batch, truth),) = train_detector._batches(Scenes(images, objects), 1, np.random.RandomState(0))
    lefts = set()
    for image, one in zip(batch, truth, strict=True):
        rows, columns = (image[0] > 100).nonzero(as_tuple=True)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert one.boxes[0].tolist() == [int(edge) for edge in found]
        lefts.add(int(columns.min()) > 31)
    assert lefts == {False, True}


def test_calibration_ends_where_it_is_right(scenes):
    net = load_scene_net(WEIGHTS)
    calibrate(net, scenes)
    before = net.score.bias.clone()
    calibrate(net, scenes)
    torch.testing.assert_close(net.score.bias, before, atol=1e-4, rtol=0)


def test_weights_are_stored_in_half_precision(tmp_path):
    path = tmp_path / "net.safetensors"
    net = load_scene_net(WEIGHTS)
    with torch.no_grad():
        net.score.bias += 0.125
    save_weights(net, path)
    loaded = load_scene_net(path)
    assert torch.equal(weights(loaded), weights(net).half().float())
    assert path.stat().st_size < 1e6


def test_the_command_writes_a_detector_and_the_other_judges_it(tmp_path):
    path = tmp_path / "net.safetensors"
    result = CliRunner().invoke(train_detector.main, [f"--out={path}", "--scenes=24", "--steps=1"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(evaluate_detector.main, [f"--weights={path}", "--scenes=3"])
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["category", *CATEGORIES]


def test_damaged_weights(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"net.safetensors cannot be loaded as a scene detector"):
        load_scene_net(path)
