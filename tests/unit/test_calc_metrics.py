import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import calc_metrics
from metrics import detectors, metric_main
from tests import image_files
from tests.unit.metrics import tiny
from training.networks import Discriminator
from training.snapshots.portable import save_portable

pytestmark = pytest.mark.usefixtures("own_cache")


class MeanColor(torch.nn.Module):
    """A TorchScript detector in place of Inception and VGG16."""

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert return_features
        return img.to(torch.float32).mean((2, 3)) / 255


@pytest.fixture
def detector_dir(tmp_path):
    folder = tmp_path / "detectors"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in (detectors.INCEPTION, detectors.VGG16):
            torch.jit.script(MeanColor()).save(folder / f"{name}.pt")
    return folder


@pytest.fixture
def seen(monkeypatch):
    """A metric that notes the options it is given."""
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))
    seen = []

    @metric_main.register_metric
    def note(opts):
        seen.append(opts)
        return {"note": 1.0}

    return seen


def write_images(path, count=8, **kwargs):
    return image_files.write_zip(path, image_files.images(count, size=(8, 8)), **kwargs)


def write_snapshot(path, training_set_kwargs, c_dim=0):
    G = tiny.generator(c_dim)
    D = Discriminator(c_dim=c_dim, img_resolution=8, img_channels=3, channel_base=64, channel_max=8)
    networks = {"G": G, "D": D.eval().requires_grad_(False), "G_ema": G, "augment_pipe": None}
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps({"training_set_kwargs": training_set_kwargs, **networks}))
    return path


def run(*args):
    return CliRunner().invoke(calc_metrics.calc_metrics, [str(arg) for arg in args], catch_exceptions=False)


def results(output):
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("gpus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_sets_of_images(gpus, tmp_path, detector_dir, capfd):
    data, data2 = write_images(tmp_path / "a.zip"), write_images(tmp_path / "b.zip", 6)
    options = (f"--data={data}", f"--data2={data2}", f"--detectors={detector_dir}", f"--gpus={gpus}")
    outcome = run("--metrics=pr50k3_full, fid50k_full,pr50k3_full", *options, "--trust-detectors")
    assert outcome.exit_code == 0, outcome.output
    output = outcome.output + capfd.readouterr().out
    precision_recall, fid = results(output)
    assert "\npr50k3_full_precision 1, pr50k3_full_recall 1 (8 real images, 6 images scored, vgg16, " in output
    *_, next_to_last, last = output.splitlines()
    assert next_to_last.startswith("Wrote no file")
    assert last == "Next: compare values only if their protocols agree, see docs/metrics.md"
    assert precision_recall["results"] == {"pr50k3_full_precision": 1.0, "pr50k3_full_recall": 1.0}
    assert fid["results"]["fid50k_full"] > 0
    assert fid["num_gpus"] == gpus
    assert (fid["protocol"]["num_real"], fid["protocol"]["num_gen"]) == (8, 6)
    assert fid["snapshot_pkl"] is None


def test_snapshot_in_a_run_folder(tmp_path, seen):
    data = write_images(tmp_path / "data.zip")
    network = write_snapshot(tmp_path / "run" / "network-snapshot-000001.pkl", tiny.dataset_kwargs(data, xflip=True))
    network.with_name("training_options.json").touch()
    outcome = run(f"--network={network}", "--metrics=note", "--seed=5", "--batch=3", "--cache=0", "--device=cpu")
    assert outcome.exit_code == 0, outcome.output
    (opts,) = seen
    assert opts.dataset_kwargs == tiny.dataset_kwargs(data, xflip=True, use_labels=False, resolution=8)
    assert (opts.seed, opts.batch_size, opts.cache, opts.device.type) == (5, 3, False, "cpu")
    assert opts.G.img_resolution == 8
    results_file = network.with_name("metric-note.jsonl")
    assert outcome.output.splitlines()[:2] == ["note 1 (0s)", f"Appended the full record to {results_file}"]
    (line,) = results_file.read_text().splitlines()
    assert json.loads(line)["snapshot_pkl"] == "network-snapshot-000001.pkl"


def test_scores_against_held_out_images(tmp_path, seen):
    network = write_snapshot(tmp_path / "network.pkl", tiny.dataset_kwargs(write_images(tmp_path / "training.zip")))
    held_out = write_images(tmp_path / "held-out.zip", count=5)
    result = run(f"--network={network}", f"--metricdata={held_out}", "--metrics=note", "--object-detector=scenes")
    assert result.exit_code == 0, result.output
    assert seen[0].dataset_kwargs.path == str(held_out)
    assert seen[0].object_detector == "scenes"
    assert seen[0].pretrained_D == "none"


def test_says_what_pretrained_network_the_discriminator_has(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(Discriminator, "pretrained", "Net (ImageNet)", raising=False)
    network = write_snapshot(tmp_path / "network.pkl", {})
    run(f"--network={network}", f"--data={write_images(tmp_path / 'real.zip')}", "--metrics=note")
    assert seen[0].pretrained_D == "Net (ImageNet)"


def test_names_of_metrics_of_objects_are_known(tmp_path):
    images = write_images(tmp_path / "images.zip")
    result = run(f"--data={images}", f"--data2={images}", "--metrics=okd2k_car", "--object-detector=yolo")
    assert result.exit_code == 1
    assert "Error: no object detector 'yolo': --object-detector takes" in result.output
    result = run(f"--data={images}", f"--data2={images}", "--metrics=fd1k_efflite1", "--object-detector=")
    assert "Error: no object detector '': --object-detector takes" in result.output
    assert run(f"--data={images}", f"--data2={images}", "--metrics=okd2k_").exit_code == 2


def test_snapshot_elsewhere_leaves_no_file(tmp_path, seen):
    network = write_snapshot(tmp_path / "x.pkl", tiny.dataset_kwargs(write_images(tmp_path / "data.zip")))
    outcome = run(f"--network={network}", "--metrics=note")
    assert results(outcome.output)[0]["snapshot_pkl"] == str(network)
    assert not list(tmp_path.glob("*.jsonl"))


def test_options_replace_those_of_training(tmp_path, seen):
    labels = [[name, index % 3] for index, name in enumerate(image_files.images(8))]
    other = write_images(tmp_path / "other.zip", labels=labels)
    network = write_snapshot(tmp_path / "x.pkl", tiny.dataset_kwargs(tmp_path / "gone.zip", max_size=3), c_dim=3)
    outcome = run(f"--network={network}", "--metrics=note", f"--data={other}", "--mirror=1")
    assert outcome.exit_code == 0, outcome.output
    assert seen[0].dataset_kwargs == tiny.dataset_kwargs(other, xflip=True, use_labels=True, resolution=8)


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize("option", [[], ["--mirror=0"], ["--mirror=1"]])
def test_other_images_are_mirrored_as_in_training_unless_told(option, in_training, tmp_path, seen):
    data = write_images(tmp_path / "data.zip")
    settings = tiny.dataset_kwargs(tmp_path / "gone.zip", xflip=in_training)
    network = write_snapshot(tmp_path / "x.pkl", settings)
    assert run(f"--network={network}", "--metrics=note", f"--data={data}", *option).exit_code == 0
    assert seen[0].dataset_kwargs.xflip is (in_training if not option else option == ["--mirror=1"])


def test_scores_a_generator(tmp_path, monkeypatch):
    weights = tmp_path / "tiny.txt"
    weights.write_text("1.0")
    monkeypatch.setattr(detectors, "DETECTORS", dict(detectors.DETECTORS))
    tiny.register_detector(weights)
    detectors.DETECTORS[detectors.EFFLITE1] = detectors.DETECTORS[tiny.NAME]
    network = write_snapshot(tmp_path / "x.pkl", tiny.dataset_kwargs(write_images(tmp_path / "data.zip")))
    outcome = run(f"--network={network}", "--metrics=fd1k_efflite1")
    (result,) = results(outcome.output)
    assert result["results"]["fd1k_efflite1"] > 0.1
    assert result["protocol"]["num_gen"] == 1000


def test_scores_an_exported_folder(tmp_path, seen):
    save_portable(tmp_path / "exported", tiny.generator())
    data = write_images(tmp_path / "data.zip")
    outcome = run(f"--network={tmp_path / 'exported'}", "--metrics=note", f"--data={data}")
    assert outcome.exit_code == 0, outcome.output
    assert torch.equal(seen[0].G.mapping.fc0.weight, tiny.generator().mapping.fc0.weight)
    assert "give the real images with --data" in run(f"--network={tmp_path / 'exported'}", "--metrics=note").output


def mistakes(folder: Path, detector_dir: Path):
    data = write_images(folder / "data.zip")
    no_data = write_snapshot(folder / "no_data.pkl", None)
    gone = write_snapshot(folder / "gone.pkl", tiny.dataset_kwargs(folder / "gone.zip"))
    yield (), "give either --network or --data2"
    yield (f"--network={gone}", f"--data2={data}"), "give either --network or --data2"
    yield (f"--data2={data}",), "--data2 needs --data"
    yield (f"--data2={data}", f"--data={data}", "--metrics=fid51k,fid50k"), "'fid51k': choose from fid50k_full"
    yield (f"--network={no_data}",), "does not name its training set: give the real images with --data"
    yield (f"--network={gone}",), "gone.zip', does not exist: give its path with --data"
    for number, settings in enumerate([{}, {"path": str(data)}]):
        nothing = write_snapshot(folder / f"nothing{number}.pkl", settings)
        yield (f"--network={nothing}",), "does not name its training set: give the real images with --data"
    for number, settings in enumerate([{"yflip": True}, {"max_size": "7"}]):
        odd = write_snapshot(folder / f"odd{number}.pkl", {**tiny.dataset_kwargs(data), **settings})
        yield (f"--network={odd}",), ": give the images by --data"
    yield (f"--data={data}", f"--data2={folder / 'none.zip'}", f"--detectors={folder}"), "no such folder or zip: "
    conditional = write_snapshot(folder / "conditional.pkl", tiny.dataset_kwargs(data), c_dim=3)
    yield (f"--network={conditional}",), "is conditional on 3 label values, found 0 per image in dataset"
    foreign = write_snapshot(folder / "foreign.pkl", {"class_name": "os.system", "command": f"touch {folder / 'ran'}"})
    yield (
        (f"--network={foreign}",),
        "was trained on a 'os.system', which is not a dataset class of this project: give the real images",
    )
    yield (f"--network={folder / 'none.pkl'}",), "none.pkl: no such file or folder; give a snapshot"
    options = (f"--data2={data}", f"--data={data}", "--metrics=is50k", f"--detectors={folder}")
    (folder / "inception-2015-12-05.pt").write_bytes(b"weights")
    (folder / "inception-2015-12-05.pt.sha256").write_text("0" * 64)
    yield options, "is50k: no weights for detector inception-2015-12-05: "
    options = (f"--data2={data}", f"--data={data}", f"--detectors={detector_dir}", "--metrics=fid50k_full")
    yield options, "inception-2015-12-05.pt is a TorchScript program of unknown origin (sha256 "
    yield options, "if you trust its author, use --trust-detectors"
    few = write_images(folder / "few.zip", count=3)
    options = (f"--data2={data}", f"--data={few}", f"--detectors={detector_dir}")
    yield (*options, "--metrics=pr50k3_full", "--trust-detectors"), "more than 3 images per set, got 3 real and 8 gene"


def test_user_errors_are_one_line_that_says_what_to_do(tmp_path, detector_dir):
    for args, expected in mistakes(tmp_path, detector_dir):
        outcome = run(*args)
        assert outcome.exit_code != 0
        (line,) = [line for line in outcome.output.splitlines() if line.startswith("Error:")]
        assert expected in line
        assert "Traceback" not in outcome.output
    assert not (tmp_path / "ran").exists()


def test_a_foreign_dataset_is_no_obstacle_when_the_images_are_given(tmp_path, seen):
    data = write_images(tmp_path / "data.zip")
    network = write_snapshot(tmp_path / "x.pkl", {"class_name": "mine.Images", "path": "images.tfrecords"})
    assert run(f"--network={network}", "--metrics=note", f"--data={data}").exit_code == 0
    assert seen[0].dataset_kwargs.path == str(data)


def test_a_trusted_snapshot_may_bring_a_dataset_of_its_own(tmp_path, seen):
    network = write_snapshot(tmp_path / "x.pkl", {"class_name": "mine.Images"})
    assert run(f"--network={network}", "--metrics=note", "--trust-pickle").exit_code == 0
    assert seen[0].dataset_kwargs.class_name == "mine.Images"


def test_help_names_every_metric():
    text = run("--help").output
    assert all(name in text for name in metric_main.list_valid_metrics())
    assert "\\b" not in text
    assert "\n    fid50k_full, kid50k_full, " in text
