import tracemalloc

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import style_mixing
from style_mixing import generate_style_mix, save_mix_grid
from tests import tiny_snapshot
from training.inference.sampling import synthesize
from training.networks import Generator
from training.snapshots.portable import save_portable


def run(*args):
    return CliRunner().invoke(generate_style_mix, [*map(str, args), "--device=cpu"])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@torch.no_grad()
def ws_of(G, seed, psi=1, class_idx=None):
    c = torch.zeros(1, G.c_dim)
    if class_idx is not None:
        c[0, class_idx] = 1
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim).astype(np.float32))
    return G.mapping(z, c, truncation_psi=psi)


@torch.no_grad()
def expected(G, row, col, styles, **kwargs):
    ws = ws_of(G, row, **kwargs)
    ws[:, styles] = ws_of(G, col, **kwargs)[:, styles]
    img = G.synthesis(ws, noise_mode="const")
    return tiny_snapshot.pixels(img)


def test_a_single_image(network, outdir):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--rows=8", "--cols=8")
    assert f"Wrote 1 image to {outdir}, and all together as {outdir / 'grid.png'}" in result.output


def test_mixtures(network, outdir):
    path, G = network
    result = run(f"--network={path}", f"--outdir={outdir}", "--rows=8,3", "--cols=5", "--styles=0,2-3", "--trunc=0.5")
    assert result.exit_code == 0
    wrote, suggested = result.output.splitlines()[-2:]
    assert wrote == f"Wrote 5 images to {outdir}, and all together as {outdir / 'grid.png'}"
    assert suggested.startswith(
        "Next: other layers, --styles=0-2 or --styles=3-5 of the 6 here; low layers change the shape"
    )
    names = {"8-5.png", "3-5.png", "8-8.png", "3-3.png", "5-5.png", "grid.png"}
    assert {file.name for file in outdir.iterdir()} == names
    for name in names - {"grid.png"}:
        row, col = map(int, name.removesuffix(".png").split("-"))
        np.testing.assert_array_equal(pixels(outdir / name), expected(G, row, col, [0, 2, 3], psi=0.5))
    image = {name: pixels(outdir / f"{name}.png") for name in ("8-5", "3-5", "8-8", "3-3", "5-5")}
    rows = [[np.zeros_like(image["5-5"]), image["5-5"]], [image["8-8"], image["8-5"]], [image["3-3"], image["3-5"]]]
    np.testing.assert_array_equal(
        pixels(outdir / "grid.png"), np.concatenate([np.concatenate(row, axis=1) for row in rows])
    )
    assert len({image.tobytes() for image in image.values()}) == 5


def test_a_grid_takes_little_more_memory_than_its_images(tmp_path):
    seeds = list(range(9))
    images = dict.fromkeys([(row, col) for row in seeds for col in seeds], np.zeros([100, 100, 3], np.uint8))
    tracemalloc.start()
    save_mix_grid(images, seeds, seeds, tmp_path / "grid.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 10 * 10 * 100 * 100 * 3


def test_default_styles_are_the_first_seven_or_all(network, outdir):
    path, G = network
    assert G.num_ws == 6
    assert run(f"--network={path}", f"--outdir={outdir}", "--rows=1", "--cols=2").exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "1-2.png"), pixels(outdir / "2-2.png"))

    G = tiny_snapshot.write(path, img_resolution=32)
    assert run(f"--network={path}", f"--outdir={outdir}", "--rows=1", "--cols=2").exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "1-2.png"), expected(G, 1, 2, list(range(7))))
    assert (pixels(outdir / "1-2.png") != pixels(outdir / "2-2.png")).any()


def test_conditional_grey_network_in_batches(tmp_path, outdir):
    path = tmp_path / "conditional.pkl"
    G = tiny_snapshot.write(path, c_dim=2, img_channels=1)
    arguments = ("--rows=0", "--cols=1-4", "--styles=1", "--class=1", "--batch=3")
    assert run(f"--network={path}", f"--outdir={outdir}", *arguments).exit_code == 0
    for col in range(1, 5):
        difference = pixels(outdir / f"0-{col}.png").astype(int) - expected(G, 0, col, [1], class_idx=1)
        assert np.abs(difference).max() <= 1


def test_images_are_written_when_they_are_there(network, outdir, monkeypatch):
    parts = []

    def synthesize_once(*args):
        parts.append(args)
        if len(parts) == 2:
            raise KeyboardInterrupt
        return synthesize(*args)

    monkeypatch.setattr(style_mixing, "synthesize", synthesize_once)
    assert run(f"--network={network[0]}", f"--outdir={outdir}", "--rows=0", "--cols=1", "--batch=2").exit_code != 0
    assert sorted(path.name for path in outdir.iterdir()) == ["0-0.png", "1-1.png"]


def test_a_seed_may_be_row_and_column(network, outdir):
    path, G = network
    assert run(f"--network={path}", f"--outdir={outdir}", "--rows=1,2", "--cols=1,2", "--styles=0").exit_code == 0
    np.testing.assert_array_equal(pixels(outdir / "1-1.png"), expected(G, 1, 1, [0]))
    np.testing.assert_array_equal(pixels(outdir / "2-1.png"), expected(G, 2, 1, [0]))
    assert pixels(outdir / "grid.png").shape == (48, 48, 3)


def test_a_seed_that_is_named_twice_has_one_row(network, outdir):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", "--rows=1,2,1", "--cols=3-4,4")
    assert "Warning: --rows names 1 more than once; each seed is drawn once\n" in result.output
    assert "Warning: --cols names 4 more than once; each seed is drawn once\n" in result.output
    assert pixels(outdir / "grid.png").shape == (48, 48, 3)


def test_truncation_needs_an_average_w(tmp_path, outdir):
    without = {"num_layers": 2, "w_avg_beta": None}
    G = Generator(8, 0, 8, 16, 3, mapping_kwargs=without, synthesis_kwargs=tiny_snapshot.SMALL)
    save_portable(tmp_path / "network", G)
    result = run(f"--network={tmp_path / 'network'}", f"--outdir={outdir}", "--rows=1", "--cols=2", "--trunc=0.5")
    assert result.exit_code == 1
    assert result.output.startswith("Error: this network has no average w to truncate towards")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows=1"], "Missing option '--cols'"),
        (["--rows=1", "--cols=2", "--trunc=inf"], "inf: give a finite number"),
        (["--rows=1", "--cols=0-9999"], "a grid of 10001 x 2 images of 16 px is too large"),
        (["--rows=1", "--cols=2", "--styles=6"], "--styles: there is no layer 6, this network has layers 0-5"),
        (["--rows=1", "--cols=2", "--styles=0-"], "'0-': give numbers such as 0-35 or 1,2,3"),
    ],
)
def test_user_errors_are_one_line(network, outdir, arguments, said):
    result = run(f"--network={network[0]}", f"--outdir={outdir}", *arguments)
    assert result.exit_code != 0
    assert "Error: " in result.output.splitlines()[-1]
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()
