import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from generate import fit_grid, generate_images
from tests import tiny_snapshot
from training.snapshots.portable import save_portable

DEVICE = "--device=cpu"


def run(*args):
    return CliRunner().invoke(generate_images, [*map(str, args), DEVICE])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@torch.no_grad()
def expected(G, seed, class_idx=None, **kwargs):
    """CONTRACT 9, written out."""
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim).astype(np.float32))
    c = torch.zeros(1, G.c_dim)
    if class_idx is not None:
        c[0, class_idx] = 1
    img = G(z, c, **{"noise_mode": "const", **kwargs})
    return tiny_snapshot.pixels(img)


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network-snapshot-000001.pkl"
    return path, tiny_snapshot.write(path)


@pytest.fixture
def outdir(tmp_path):
    return tmp_path / "deep" / "out"


@pytest.mark.parametrize(("trunc", "noise_mode"), [(1, "const"), (0.5, "const"), (0.7, "none")])
def test_pixels_are_those_of_the_contract(network, outdir, trunc, noise_mode):
    path, G = network
    result = run(
        f"--network={path}", f"--outdir={outdir}", "--seeds=3,7-8", f"--trunc={trunc}", f"--noise-mode={noise_mode}"
    )
    assert (result.exit_code, result.output) == (0, "")
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
    assert run(f"--network={path}", f"--outdir={outdir}", "--seeds=0-4", "--grid=3x2").exit_code == 0
    images = [expected(G, seed) for seed in range(5)]
    last_row = [images[3], images[4], np.zeros_like(images[0])]
    grid = np.concatenate([np.concatenate(row, axis=1) for row in (images[:3], last_row)])
    np.testing.assert_array_equal(pixels(outdir / "grid.png"), grid)
    np.testing.assert_array_equal(pixels(outdir / "seed0004.png"), images[4])


@pytest.mark.parametrize(("num", "size"), [(1, (1, 1)), (2, (2, 1)), (5, (3, 2)), (36, (6, 6)), (37, (7, 6))])
def test_automatic_grid_is_about_square(num, size):
    assert fit_grid((0, 0), num) == size


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
    assert run(f"--network={path}", f"--outdir={outdir}", "--seeds=1", "--class=2").exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "seed0001.png"), expected(G, 1, class_idx=2))
    assert (expected(G, 1, class_idx=2) != expected(G, 1, class_idx=1)).any()


def test_class_without_effect_is_reported(network, outdir):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--seeds=1", "--class=2")
    assert (result.exit_code, result.output) == (0, "Warning: --class has no effect, the network is unconditional\n")


def test_projected_w(network, outdir, tmp_path):
    path, G = network
    w = np.random.RandomState(0).randn(2, G.num_ws, G.w_dim)
    np.savez(tmp_path / "w.npz", w=w)
    result = run(f"--network={path}", f"--outdir={outdir}", f"--projected-w={tmp_path / 'w.npz'}", "--seeds=1")
    assert result.output == "Warning: --seeds, --class and --trunc have no effect on --projected-w\n"
    assert sorted(file.name for file in outdir.iterdir()) == ["proj00.png", "proj01.png"]
    with torch.no_grad():
        img = G.synthesis(torch.from_numpy(w[1:].astype(np.float32)), noise_mode="const")
    image = (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(outdir / "proj01.png"), image)


def test_network_can_be_a_folder(network, outdir, tmp_path):
    G = network[1]
    save_portable(tmp_path / "portable", G)
    assert run(f"--network={tmp_path / 'portable'}", f"--outdir={outdir}", "--seeds=9").exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "seed0009.png"), expected(G, 9))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --seeds or --projected-w"),
        (["--seeds=1,x"], "'1,x': give numbers as in 0-35 or 1,2,3"),
        (["--seeds=5-3"], "5-3: give 0 to 4294967295, the smaller one first"),
        (["--seeds=4294967296"], "4294967296: give 0 to 4294967295"),
        (["--seeds=0-9", "--grid=3x3"], "--grid=3x3: 10 images do not fit in 9 places"),
        (["--seeds=0", "--grid=0x3"], "'0x3': give COLUMNSxROWS, such as 6x4, or auto"),
        (["--projected-w=absent.npz"], "'absent.npz' does not exist"),
        (["--seeds=0", "--network=absent.pkl"], "no such file: absent.pkl"),
    ],
)
def test_mistakes_are_told_in_one_line(network, outdir, arguments, said):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", *arguments)
    assert result.exit_code != 0
    assert "Error: " in result.output.splitlines()[-1]
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "this network draws images of 3 classes: choose one by --class=0..2"),
        (["--class=3"], "--class=3: this network has classes 0..2"),
        (["--class=-1"], "--class=-1: this network has classes 0..2"),
    ],
)
def test_conditional_networks_need_a_class(tmp_path, outdir, arguments, said):
    path = tmp_path / "conditional.pkl"
    tiny_snapshot.write(path, c_dim=3)
    result = run(f"--network={path}", f"--outdir={outdir}", "--seeds=0", *arguments)
    assert (result.exit_code, result.output) == (1, f"Error: {said}\n")
