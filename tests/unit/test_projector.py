import os
import sys
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import dnnlib.util
import projector
from dnnlib.download import DownloadError
from metrics import detectors
from projector import run_projection
from tests import tiny_snapshot
from tests.image_files import random_image
from tests.unit.metrics import tiny


@pytest.fixture(autouse=True)
def _small_and_offline(tmp_path, monkeypatch):
    def download(*_args, **_kwargs):
        raise DownloadError("no network")

    monkeypatch.setattr(dnnlib.util, "download", download)
    monkeypatch.setattr(dnnlib.util, "_cache_dir", str(tmp_path / "cache"))
    monkeypatch.delenv(detectors.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(detectors.TRUST_VARIABLE, "0")
    monkeypatch.setattr(detectors, "DETECTORS", dict(detectors.DETECTORS))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    weights = tmp_path / "tiny.txt"
    weights.write_text("1")
    tiny.register_detector(weights)


@pytest.fixture
def target(tmp_path):
    random_image(size=(40, 20)).resize((400, 200)).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


@pytest.fixture
def outdir(tmp_path):
    return tmp_path / "out"


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
    distance, wrote, why, following = result.output.splitlines()[-4:]
    words = distance.split()
    assert (words[0], words[2], words[4:7]) == ("Distance", "->", ["in", "30", "steps,"])
    assert float(words[3]) < float(words[1])
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
    monkeypatch.setattr(projector, "MAX_FRAMES", 3)
    monkeypatch.setattr(projector, "draw", lambda G, w: np.full([2, 2, 3], int(w), np.uint8))
    frames = list(projector.video_frames(None, torch.arange(10), np.full([2, 2, 3], 99, np.uint8)))
    assert [frame[0, :, 0].tolist() for frame in frames] == [[99, 99, i, i] for i in (0, 4, 9)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no weights for detector vgg16"),
        ([], "; or use --detector=efficientnet_lite1, which needs no download"),
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
    assert result.output == f"Error: {tmp_path / 'fifo'} is not a regular file\n"


def test_target_that_is_no_image(tmp_path, outdir):
    tiny_snapshot.write(tmp_path / "snapshot.pkl")
    (tmp_path / "photo.jpg").write_text("text")
    result = run(tmp_path / "snapshot.pkl", tmp_path / "photo.jpg", outdir, "--detector=tiny")
    assert result.output.startswith(f"Error: {tmp_path / 'photo.jpg'} is not an image in a known format")
