import tracemalloc

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from generate import generate_images
from metrics.objects.protocol import Detections
from tests import tiny_snapshot
from training.inference import video_command
from training.inference.grid_size import fit_grid
from training.inference.image_command import save_grid
from training.inference.stored import StoredVectors, save_vectors
from training.networks import Generator
from training.snapshots.portable import save_portable

DEVICE = "--device=cpu"


def run(*args):
    return CliRunner().invoke(generate_images, [*map(str, args), DEVICE])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@torch.no_grad()
def expected(G, seed, class_idx=None, **kwargs):
    """The formula of docs/compatibility.md."""
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim).astype(np.float32))
    c = torch.zeros(1, G.c_dim)
    if class_idx is not None:
        c[0, class_idx] = 1
    img = G(z, c, **{"noise_mode": "const", **kwargs})
    return tiny_snapshot.pixels(img)


@pytest.mark.parametrize(("trunc", "noise_mode"), [(1, "const"), (0.5, "const"), (0.7, "none")])
def test_pixels_are_those_of_the_formula(network, outdir, trunc, noise_mode):
    path, G = network
    result = run(
        f"--network={path}", f"--outdir={outdir}", "--seeds=3,7-8", f"--trunc={trunc}", f"--noise-mode={noise_mode}"
    )
    assert result.exit_code == 0
    assert result.output.splitlines()[-2:] == [
        f"Wrote 3 images to {outdir}: seed0003.png to seed0008.png",
        f"Next: python style_mixing.py --network={path} --outdir={outdir / 'mixed'} --rows=3 --cols=8",
    ]
    assert sorted(file.name for file in outdir.iterdir()) == ["seed0003.png", "seed0007.png", "seed0008.png"]
    for seed in (3, 7, 8):
        image = pixels(outdir / f"seed{seed:04d}.png")
        np.testing.assert_array_equal(image, expected(G, seed, truncation_psi=trunc, noise_mode=noise_mode))
    assert len(np.unique(image)) > 50


def test_grey_network_writes_grey_files(tmp_path, outdir):
    G = tiny_snapshot.write(tmp_path / "grey.pkl", img_channels=1)
    assert run(f"--network={tmp_path / 'grey.pkl'}", f"--outdir={outdir}", "--seeds=0", "--grid").exit_code == 0
    with Image.open(outdir / "seed0000.png") as image:
        assert image.mode == "L"
    np.testing.assert_array_equal(pixels(outdir / "seed0000.png"), expected(G, 0))
    np.testing.assert_array_equal(pixels(outdir / "grid.png"), expected(G, 0))


def test_grid_shows_the_images_row_by_row_beside_single_files(network, outdir):
    path, G = network
    result = run(f"--network={path}", f"--outdir={outdir}", "--seeds=0-4", "--grid=3x2")
    assert f"Wrote 5 images to {outdir}: seed0000.png to seed0004.png and grid.png" in result.output.splitlines()
    images = [expected(G, seed) for seed in range(5)]
    last_row = [images[3], images[4], np.zeros_like(images[0])]
    grid = np.concatenate([np.concatenate(row, axis=1) for row in (images[:3], last_row)])
    np.testing.assert_array_equal(pixels(outdir / "grid.png"), grid)
    np.testing.assert_array_equal(pixels(outdir / "seed0004.png"), images[4])


def test_a_seed_that_is_named_twice_is_drawn_once(network, outdir):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=1,1,2,0-2", "--grid")
    assert "Warning: --seeds names 1, 2 more than once; each seed is drawn once" in result.output.splitlines()
    assert f"Wrote 3 images to {outdir}: seed0001.png to seed0000.png and grid.png" in result.output.splitlines()
    np.testing.assert_array_equal(pixels(outdir / "grid.png")[:16, 16:], pixels(outdir / "seed0002.png"))


def test_a_grid_takes_little_more_memory_than_its_images(tmp_path):
    images = [np.zeros([100, 100, 3], np.uint8)] * 100
    tracemalloc.start()
    save_grid(images, tmp_path / "grid.png", (10, 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * sum(image.nbytes for image in images)


@pytest.mark.parametrize(("num", "size"), [(1, (1, 1)), (2, (2, 1)), (5, (3, 2)), (36, (6, 6)), (37, (7, 6))])
def test_automatic_grid_is_about_square(num, size):
    assert fit_grid("auto", num, 16) == size


def test_batches_draw_the_same_images(network, outdir):
    path, G = network
    assert run(f"--network={path}", f"--outdir={outdir}", "--seeds=0-4", "--batch=2").exit_code == 0
    for seed in range(5):
        difference = pixels(outdir / f"seed{seed:04d}.png").astype(int) - expected(G, seed)
        assert np.abs(difference).max() <= 1


def test_random_noise_belongs_to_the_seed(network, outdir):
    path, G = network
    for name, seeds, batch in (("alone", "5", 1), ("among", "4-6", 3)):
        arguments = (f"--seeds={seeds}", f"--batch={batch}", "--noise-mode=random")
        assert run(f"--network={path}", f"--outdir={outdir / name}", *arguments).exit_code == 0
    alone, among = (pixels(outdir / name / "seed0005.png").astype(int) for name in ("alone", "among"))
    assert np.abs(alone - among).max() <= 1
    assert np.abs(alone - expected(G, 5)).max() > 1


def test_class(tmp_path, outdir):
    path = tmp_path / "conditional.pkl"
    G = tiny_snapshot.write(path, c_dim=3)
    result = run(f"--network={path}", f"--outdir={outdir}", "--seeds=1,0", "--class=2")
    assert result.output.splitlines()[-1].endswith(" --rows=1 --cols=0 --class=2")
    result = run(f"--network={path}", f"--outdir={outdir}", "--seeds=1,0", "--class=2", "--trust-pickle")
    assert result.output.splitlines()[-1].endswith(" --rows=1 --cols=0 --class=2 --trust-pickle")
    np.testing.assert_array_equal(pixels(outdir / "seed0001.png"), expected(G, 1, class_idx=2))
    assert (expected(G, 1, class_idx=2) != expected(G, 1, class_idx=1)).any()


def test_class_without_effect_is_reported(network, outdir):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=1", "--class=2")
    assert result.exit_code == 0
    assert "Warning: --class has no effect because the network is unconditional\n" in result.output
    assert result.output.splitlines()[-1] == f"Wrote 1 image to {outdir}: seed0001.png"


def test_projected_w(network, outdir, tmp_path):
    path, G = network
    w = np.random.RandomState(0).randn(2, G.num_ws, G.w_dim)
    np.savez(tmp_path / "w.npz", w=w)
    result = run(f"--network={path}", f"--outdir={outdir}", f"--projected-w={tmp_path / 'w.npz'}", "--seeds=1")
    assert "Warning: --seeds, --class and --trunc have no effect on --projected-w\n" in result.output
    assert result.output.splitlines()[-1] == f"Wrote 2 images to {outdir}: proj00.png to proj01.png"
    assert sorted(file.name for file in outdir.iterdir()) == ["proj00.png", "proj01.png"]
    with torch.no_grad():
        img = G.synthesis(torch.from_numpy(w[1:].astype(np.float32)), noise_mode="const")
    image = (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(outdir / "proj01.png"), image)


def test_a_damaged_w_avg_is_told_and_replaced(tmp_path, outdir, caplog):
    G = tiny_snapshot.generator()
    G.mapping.w_avg.fill_(float("nan"))
    save_portable(tmp_path / "damaged", G)
    arguments = (f"--network={tmp_path / 'damaged'}", f"--outdir={outdir}", "--seeds=0")
    assert run(*arguments, "--trunc=0.7").exit_code == 0
    assert "mapping.w_avg was not finite; it was reset" in caplog.text
    assert len(np.unique(pixels(outdir / "seed0000.png"))) > 50
    assert run(*arguments).exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "seed0000.png"), expected(tiny_snapshot.generator(), 0))


def test_a_network_without_w_avg_draws_without_truncation_only(tmp_path, outdir):
    without = {"num_layers": 2, "w_avg_beta": None}
    G = Generator(8, 0, 8, 16, 3, mapping_kwargs=without, synthesis_kwargs=tiny_snapshot.SMALL)
    save_portable(tmp_path / "network", G)
    result = run(f"--network={tmp_path / 'network'}", f"--outdir={outdir}", "--seeds=0", "--trunc=0.5")
    error = "Error: this network has no average w to truncate towards: use --trunc=1, not 0.5\n"
    assert (result.exit_code, result.output) == (1, error)
    assert run(f"--network={tmp_path / 'network'}", f"--outdir={outdir}", "--seeds=0").exit_code == 0


def test_a_network_that_overflows_draws_no_flat_images(tmp_path, outdir):
    G = tiny_snapshot.generator()
    G.synthesis.b16.torgb.weight.fill_(3e38)
    G.synthesis.b16.conv1.bias.fill_(3e38)
    save_portable(tmp_path / "network", G)
    result = run(f"--network={tmp_path / 'network'}", f"--outdir={outdir}", "--seeds=0")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: the generated images contain values that are not finite")
    assert not list(outdir.iterdir())


def test_network_can_be_a_folder(network, outdir, tmp_path):
    G = network[1]
    save_portable(tmp_path / "portable", G)
    assert run(f"--network={tmp_path / 'portable'}", f"--outdir={outdir}", "--seeds=9").exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "seed0009.png"), expected(G, 9))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --seeds or --projected-w"),
        (["--seeds=1,x"], "'1,x': give numbers such as 0-35 or 1,2,3"),
        (["--seeds=0-4294967295"], "give at most 1000000 numbers"),
        (["--seeds=0", "--trunc=nan"], "nan: give a finite number"),
        (["--seeds=0", "--trunc=-inf"], "-inf: give a finite number"),
        (["--seeds=0", "--trunc=1e999"], "1e999: give a finite number"),
        (["--seeds=0", "--grid=5000x1"], "a grid of 5000 x 1 images of 16 px is too large"),
        (["--seeds=0", "--grid=4096x4096"], "a grid of 4096 x 4096 images of 16 px is too large"),
        (["--seeds=0", "--object-detector=scenes"], "--object-detector needs --boxes"),
        (["--seeds=0-4096", "--boxes"], "--boxes chooses among at most 4096 images of 16 px, got 4097: give fewer"),
        (["--seeds=0", f"--grid={'9' * 20}x1"], "give COLUMNSxROWS"),
        (["--seeds=5-3"], "5-3: give 0 to 4294967295, the smaller one first"),
        (["--seeds=4294967296"], "4294967296: give 0 to 4294967295"),
        (["--seeds=0-9", "--grid=3x3"], "--grid=3x3: 10 images do not fit in 9 cells"),
        (["--seeds=0", "--grid=0x3"], "'0x3': give COLUMNSxROWS, such as 6x4, or auto"),
        (["--projected-w=absent.npz"], "'absent.npz' does not exist"),
        (["--seeds=0", "--network=absent.pkl"], "--network=absent.pkl: no such file or folder; give a snapshot"),
    ],
)
def test_user_errors_are_one_line(network, outdir, arguments, said):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", *arguments)
    assert result.exit_code != 0
    assert "Error: " in result.output.splitlines()[-1]
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "this network is conditional on 3 classes: choose one with --class=0..2"),
        (["--class=3"], "--class=3: this network has classes 0..2"),
        (["--class=-1"], "--class=-1: this network has classes 0..2"),
    ],
)
def test_conditional_networks_need_a_class(tmp_path, outdir, arguments, said):
    path = tmp_path / "conditional.pkl"
    tiny_snapshot.write(path, c_dim=3)
    result = run(f"--network={path}", f"--outdir={outdir}", "--seeds=0", *arguments)
    assert (result.exit_code, result.output) == (1, f"Error: {said}\n")


class Everywhere:
    """Finds a tree in every image."""

    name, categories, sha256, min_side_px = "everywhere", ("tree", "car"), "", 0.0

    def detect(self, img):
        return [
            Detections(torch.tensor([[1.0, 1, 7, 7]]), torch.ones(1), torch.zeros(1, dtype=torch.int64)) for _ in img
        ]


def test_draws_boxes_of_objects(network, outdir, monkeypatch):
    monkeypatch.setattr("training.inference.image_command.load_object_detector", lambda *args, **kwargs: Everywhere())
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=0-2", "--boxes")
    assert f"Wrote 3 images to {outdir}: seed0000.png to seed0002.png and boxes.png" in result.output
    assert pixels(outdir / "boxes.png").shape[1] == 6 + 3 * (192 + 6)


def test_no_objects_no_figure(network, outdir, monkeypatch):
    monkeypatch.setattr("training.inference.image_command.load_object_detector", lambda *args, **kwargs: Everywhere())
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=0", "--boxes=car")
    assert result.exit_code == 0
    assert "object detector everywhere found nothing: no boxes.png was drawn" in result.output
    assert not (outdir / "boxes.png").exists()


@pytest.mark.parametrize("flag", ["--object-detector=nanodet", "--detectors=weights"])
def test_what_finds_objects_needs_boxes(network, outdir, flag):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=0", flag)
    assert result.exit_code == 2
    assert f"{flag.partition('=')[0]} needs --boxes" in result.output
    assert not outdir.exists()


def test_unknown_object_detectors_are_refused_before_anything_is_drawn(network, outdir):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=0", "--boxes", "--object-detector=yolo")
    assert result.exit_code == 1
    assert "no object detector 'yolo': --object-detector takes scenes, nanodet, torchvision:MODEL" in result.output
    assert not outdir.exists()


@pytest.fixture
def videos(monkeypatch):
    """The frames of each video as they are encoded, by file name."""
    written = {}

    def write(frames, path, fps):
        written[path.name] = [frame.copy() for frame in frames]
        return path

    monkeypatch.setattr(video_command, "write_video", write)
    return written


@pytest.mark.parametrize("easing", ["linear", "smooth", "spline"])
def test_a_video_passes_through_the_images_of_its_seeds_and_closes(network, outdir, videos, easing):
    path, G = network
    arguments = ("--seeds=3,7,8", "--video", "--frames=4", f"--easing={easing}", "--trunc=0.7")
    result = run(f"--network={path}", f"--outdir={outdir}", *arguments)
    assert result.output.splitlines()[-1] == f"Wrote {outdir / 'walk.mp4'}: 13 frames, 0.7 s"
    frames = videos["walk.mp4"]
    assert len(frames) == 13
    for number, seed in ((0, 3), (4, 7), (8, 8), (12, 3)):
        np.testing.assert_array_equal(frames[number], expected(G, seed, truncation_psi=0.7))
    assert (frames[2] != frames[4]).any()
    assert list(outdir.iterdir()) == []  # no single images


def test_a_video_without_a_loop_ends_at_the_last_seed(network, outdir, videos):
    path, G = network
    assert (
        run(f"--network={path}", f"--outdir={outdir}", "--seeds=3,7", "--video=gif", "--loop=0", "--frames=2").exit_code
        == 0
    )
    frames = videos["walk.gif"]
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[0], expected(G, 3))
    np.testing.assert_array_equal(frames[-1], expected(G, 7))


def test_a_grid_of_walks(network, outdir, videos):
    path, G = network
    arguments = ("--seeds=0-7", "--grid=2x2", "--video", "--frames=2")
    assert run(f"--network={path}", f"--outdir={outdir}", *arguments).exit_code == 0
    frames = videos["walk.mp4"]
    for number, seeds in ((0, (0, 2, 4, 6)), (2, (1, 3, 5, 7)), (4, (0, 2, 4, 6))):
        a, b, c, d = (expected(G, seed) for seed in seeds)
        np.testing.assert_array_equal(
            frames[number], np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])
        )


def test_a_video_through_projected_w(network, outdir, videos, tmp_path):
    path, G = network
    np.savez(tmp_path / "w.npz", w=np.random.RandomState(0).randn(2, G.num_ws, G.w_dim))
    projected_w = f"--projected-w={tmp_path / 'w.npz'}"
    assert run(f"--network={path}", f"--outdir={outdir}", projected_w, "--video", "--frames=3").exit_code == 0
    assert run(f"--network={path}", f"--outdir={outdir}", projected_w).exit_code == 0
    for number, name in ((0, "proj00.png"), (3, "proj01.png"), (6, "proj00.png")):
        np.testing.assert_array_equal(videos["walk.mp4"][number], pixels(outdir / name))


def test_a_range_of_psi_as_a_picture_and_as_a_video(network, outdir, videos):
    path, G = network
    shared = (f"--network={path}", f"--outdir={outdir}", "--seeds=3,7")
    result = run(*shared, "--trunc=0:1:3")
    assert result.exit_code == 0
    assert [file.name for file in outdir.iterdir()] == ["truncation.png"]
    rows = [np.concatenate([expected(G, s, truncation_psi=psi) for psi in (0, 0.5, 1)], axis=1) for s in (3, 7)]
    np.testing.assert_array_equal(pixels(outdir / "truncation.png"), np.concatenate(rows))
    assert run(*shared, "--trunc=0:1", "--video", "--frames=3").exit_code == 0
    frames = videos["truncation.mp4"]
    assert len(frames) == 5
    for frame, psi in zip(frames, (0, 0.5, 1, 0.5, 0), strict=True):
        images = [expected(G, seed, truncation_psi=psi) for seed in (3, 7)]
        np.testing.assert_array_equal(frame, np.concatenate(images, axis=1))
    assert run(*shared, "--trunc=0:1", "--video", "--frames=3", "--grid=3x3").exit_code == 0
    assert videos["truncation.mp4"][0].shape == (48, 48, 3)
    np.testing.assert_array_equal(videos["truncation.mp4"][4][:16, :32], frames[4])


def test_truncation_towards_the_nearest_center(network, outdir, tmp_path):
    path, G = network
    centers = StoredVectors("centers", torch.randn(5, 8), torch.ones(5), {"class": None})
    save_vectors(tmp_path / "centers.safetensors", centers, G)
    arguments = ("--seeds=3", "--trunc=0.3", f"--centers={tmp_path / 'centers.safetensors'}")
    without = run(f"--network={path}", f"--outdir={outdir}", "--seeds=3", arguments[-1])
    assert "Warning: --centers has no effect at --trunc=1" in without.output
    assert run(f"--network={path}", f"--outdir={outdir}", *arguments).exit_code == 0
    z = torch.from_numpy(np.random.RandomState(3).randn(1, 8).astype(np.float32))
    w = G.mapping(z, None)[0, 0]
    center = min(centers.vectors, key=lambda each: (each - w).norm().item())
    ws = (center + 0.3 * (w - center)).repeat(1, G.num_ws, 1)
    np.testing.assert_array_equal(
        pixels(outdir / "seed0003.png"), tiny_snapshot.pixels(G.synthesis(ws, noise_mode="const"))
    )
    assert (pixels(outdir / "seed0003.png") != expected(G, 3, truncation_psi=0.3)).any()


def test_centers_of_another_class_are_refused(tmp_path, outdir):
    G = tiny_snapshot.write(tmp_path / "network.pkl", c_dim=2)
    save_vectors(
        tmp_path / "c.safetensors", StoredVectors("centers", torch.randn(5, 8), torch.ones(5), {"class": 0}), G
    )
    arguments = ("--seeds=3", "--trunc=0.3", "--class=1", f"--centers={tmp_path / 'c.safetensors'}")
    said = run(f"--network={tmp_path / 'network.pkl'}", f"--outdir={outdir}", *arguments).output
    assert said == f"Error: {tmp_path / 'c.safetensors'} was made for class 0, not --class=1\n"


def test_a_video_of_a_training(tmp_path, outdir, videos):
    first = tiny_snapshot.write(tmp_path / "network-snapshot-000000.pkl")
    second = tiny_snapshot.write(tmp_path / "network-snapshot-000012.pkl", img_channels=3)
    arguments = (f"--network={tmp_path}", f"--outdir={outdir}", "--video", "--frames=2", "--over-training")
    assert run(*arguments, "--seeds=3,7").exit_code == 0
    frames = videos["training.mp4"]
    assert len(frames) == 4
    for number, G in ((0, first), (3, second)):
        images = np.concatenate([expected(G, 3), expected(G, 7)], axis=1)
        np.testing.assert_array_equal(frames[number][:16], images)
    assert (frames[0][16:] != frames[3][16:]).any()  # kimg
    np.testing.assert_array_equal(frames[0], frames[1])
    assert run(*arguments, "--seeds=3,7", "--grid=2x2", "--trunc=1").exit_code == 0
    np.testing.assert_array_equal(videos["training.mp4"][0][:16], frames[0][:16])
    assert (videos["training.mp4"][0][16:32] == 0).all()
    said = run(*arguments).output
    assert said.startswith(f"Error: {tmp_path} holds no fakes*.png")
    Image.new("RGB", (32, 32), (9, 0, 0)).save(tmp_path / "fakes000000.png")
    assert run(*arguments).exit_code == 0
    assert [frame[0, 0, 0] for frame in videos["training.mp4"]] == [9, 9]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds=0-2", "--frames=3"], "--frames needs --video"),
        (["--seeds=0-2", "--loop=1"], "--loop needs --video"),
        (["--over-training"], "--over-training needs --video"),
        (
            ["--over-training", "--video", "--trunc=0:1", "--seeds=0"],
            "a video over training takes one psi, not a range",
        ),
        (["--over-training", "--video", "--loop=1"], "--loop has no effect with --over-training"),
        (["--over-training", "--video", "--easing=linear"], "--easing has no effect with --over-training"),
        (
            ["--over-training", "--video", "--grid=1x1"],
            "--grid has no effect on the grids that a run drew: give --seeds",
        ),
        (["--over-training", "--video", "--trunc=0.5"], "--trunc has no effect on the grids that a run drew"),
        (["--over-training", "--video", "--class=1"], "--class has no effect on the grids that a run drew"),
        (
            ["--over-training", "--video", "--noise-mode=none"],
            "--noise-mode has no effect on the grids that a run drew",
        ),
        (["--over-training", "--video", "--centers=a"], "--centers has no effect on a video over training"),
        (["--over-training", "--video", "--network=typo.pkl"], "--network=typo.pkl: no such file or folder"),
        (["--seeds=0", "--video"], "a video goes from image to image, but there is only one"),
        (["--seeds=0-4", "--video", "--grid=2x1"], "a video of 2 walks needs the same number of key frames"),
        (["--seeds=0-3", "--video", "--grid"], "--video needs the number of walks"),
        (["--seeds=0-3", "--video", "--boxes"], "--boxes goes with single images"),
        (["--seeds=0-3", "--trunc=0:1", "--boxes"], "--boxes goes with single images"),
        (["--seeds=0-3", "--trunc=0:1:3", "--video"], "--trunc=0:1:3: a video takes the number of steps from --frames"),
        (["--seeds=0-3", "--trunc=0:1", "--grid"], "has a row per seed and a column per psi; leave it out"),
        (["--seeds=0-4999", "--trunc=0:1"], "a grid of 7 x 5000 images of 16 px is too large"),
        (["--seeds=0-3", "--centers=absent.safetensors"], "no such file: absent.safetensors; python edit.py centers"),
        (["--seeds=0-3", "--video=avi"], "'avi' is not one of 'mp4', 'webp', 'gif'"),
    ],
)
def test_videos_that_cannot_be_made(network, outdir, arguments, said):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", *arguments)
    assert result.exit_code != 0
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()
