import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import edit as script
from edit import edit
from tests import tiny_snapshot
from training.inference.sampling import class_label, map_seeds
from training.inference.stored import StoredVectors, load_vectors, save_vectors

CPU = torch.device("cpu")


def run(command, *args):
    return CliRunner().invoke(edit, [command, *map(str, args), "--device=cpu"])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("method", ["sefa", "ganspace"])
def test_directions_and_their_grids(network, outdir, method):
    path, G = network
    arguments = ("--num=2", "--layers=1-2", "--seeds=3,7", "--strength=2", "--steps=3", "--samples=100", "--trunc=0.7")
    result = run("directions", f"--network={path}", f"--outdir={outdir}", f"--method={method}", *arguments)
    assert result.exit_code == 0, result.output
    assert f"Wrote directions.safetensors and direction00.png to direction01.png to {outdir}" in result.output
    stored = load_vectors(outdir / "directions.safetensors", "directions", G)
    assert stored.settings == {
        "method": method, "layers": [1, 2], "class": None, "samples": 100, "sample_seed": 0,
    }  # fmt: skip
    torch.testing.assert_close(stored.vectors.norm(dim=1), torch.ones(2))
    for i in range(2):
        rows = []
        for seed in (3, 7):
            cells = []
            for strength in (-2, 0, 2):
                ws = map_seeds(G, [seed], class_label(G, None, CPU), 0.7)
                ws[:, 1:3] += strength * (stored.vectors[i] * stored.deviations[i])
                cells.append(tiny_snapshot.pixels(G.synthesis(ws, noise_mode="const")))
            rows.append(np.concatenate(cells, axis=1))
        np.testing.assert_array_equal(pixels(outdir / f"direction{i:02d}.png"), np.concatenate(rows))


def test_the_list_of_commands_is_not_cut_off():
    commands = CliRunner().invoke(edit, ["--help"], terminal_width=80).output.partition("Commands:\n")[2]
    assert len(commands.splitlines()) == 3
    assert "..." not in commands


def test_a_seed_that_is_named_twice_has_one_row(network, outdir):
    arguments = ("--samples=10", "--num=1", "--steps=2", "--seeds=5,3,5")
    result = run("directions", f"--network={network[0]}", f"--outdir={outdir}", *arguments)
    assert result.output.startswith("Warning: --seeds names 5 more than once; each seed is drawn once\n")
    assert pixels(outdir / "direction00.png").shape == (32, 32, 3)


def test_what_is_suggested_next_names_the_class_and_the_trust(tmp_path, outdir):
    path = tmp_path / "network.pkl"
    tiny_snapshot.write(path, c_dim=2)
    shared = (f"--network={path}", f"--outdir={outdir}", "--samples=10", "--class=1", "--trust-pickle")
    said = run("directions", *shared, "--num=1", "--steps=2", "--seeds=0").output.splitlines()[-1]
    file = outdir / "directions.safetensors"
    assert said == f"Next: python edit.py serve --network={path} --directions={file} --class=1 --trust-pickle"
    said = run("centers", *shared, "--num=1").output.splitlines()[-1]
    assert said.endswith(f" --centers={outdir / 'centers.safetensors'} --class=1 --trust-pickle")


def test_a_class_without_effect_is_told_once_and_not_suggested(network, outdir):
    arguments = ("--samples=10", "--num=1", "--steps=2", "--seeds=0", "--class=1")
    said = run("directions", f"--network={network[0]}", f"--outdir={outdir}", *arguments).output
    assert said.count("--class") == said.count("Warning: --class has no effect") == 1


def test_more_directions_than_there_are(network, outdir):
    shared = (f"--network={network[0]}", f"--outdir={outdir}")
    output = run("directions", *shared, "--num=50", "--samples=20", "--steps=2", "--seeds=0").output
    assert "--num=50: there are only 8 directions, as many as w has numbers" in output
    assert len(list(outdir.glob("direction??.png"))) == 8


def test_directions_of_projected_w(network, outdir, tmp_path):
    path, G = network
    w = np.random.RandomState(0).randn(1, G.num_ws, G.w_dim).astype(np.float32)
    np.savez(tmp_path / "w.npz", w=w)
    arguments = (f"--projected-w={tmp_path / 'w.npz'}", "--num=1", "--steps=3", "--samples=10")
    assert run("directions", f"--network={path}", f"--outdir={outdir}", *arguments).exit_code == 0
    grid = pixels(outdir / "direction00.png")
    np.testing.assert_array_equal(
        grid[:, 16:32], tiny_snapshot.pixels(G.synthesis(torch.from_numpy(w), noise_mode="const"))
    )


@pytest.mark.parametrize("flag", ["--seeds=0-3", "--trunc=1"])
def test_what_has_no_effect_on_projected_w(network, outdir, tmp_path, flag):
    (tmp_path / "w.npz").touch()
    result = run(
        "directions", f"--network={network[0]}", f"--outdir={outdir}", f"--projected-w={tmp_path / 'w.npz'}", flag
    )
    assert result.exit_code == 2
    assert f"Error: {flag.partition('=')[0]} has no effect on --projected-w\n" in result.output


def test_centers_of_a_class(tmp_path, outdir):
    G = tiny_snapshot.write(tmp_path / "network.pkl", c_dim=2)
    network = f"--network={tmp_path / 'network.pkl'}"
    result = run("centers", network, f"--outdir={outdir}", "--num=3", "--samples=200", "--class=1")
    assert result.exit_code == 0, result.output
    stored = load_vectors(outdir / "centers.safetensors", "centers", G)
    assert stored.settings == {"method": "k-means", "class": 1, "samples": 200, "sample_seed": 0}
    grid = pixels(outdir / "centers.png")
    assert grid.shape == (32, 32, 3)
    ws = stored.vectors[1].repeat(1, G.num_ws, 1)
    np.testing.assert_array_equal(grid[:16, 16:], tiny_snapshot.pixels(G.synthesis(ws, noise_mode="const")))


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("directions", ["--layers=9"], "--layers: there is no layer 9, this network has layers 0-5"),
        ("directions", ["--class=0", "--seeds=0-99999"], "a grid of 7 x 100000 images"),
        ("directions", ["--strength=nan"], "nan: give a finite number"),
        ("centers", ["--num=3", "--samples=2"], "--num=3: there are only 2 samples; raise --samples"),
        ("centers", ["--num=0"], "0 is not in the range"),
    ],
)
def test_user_errors_are_one_line(network, outdir, command, arguments, said):
    result = run(command, f"--network={network[0]}", f"--outdir={outdir}", *arguments)
    assert result.exit_code != 0
    assert said in result.output.splitlines()[-1]
    assert not outdir.exists()


class Server:
    """Ends at once."""

    url = "http://127.0.0.1:8000/"
    started = []

    def __init__(self, editor, host, port):
        self.started.append((editor, host, port))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def serve_forever(self):
        raise KeyboardInterrupt


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(script, "EditorServer", Server)
    monkeypatch.setattr(Server, "started", [])
    return Server.started


def save(path, G, layers):
    save_vectors(path, StoredVectors("directions", torch.eye(8)[:2], torch.ones(2), {"layers": layers}), G)


def test_serving_is_local_unless_asked(network, tmp_path, started):
    path, G = network
    save(tmp_path / "d.safetensors", G, [0, 2])
    arguments = (f"--network={path}", f"--directions={tmp_path / 'd.safetensors'}")
    result = run("serve", *arguments)
    assert result.output == "Serving http://127.0.0.1:8000/ until Ctrl-C\nStopped\n"
    editor, host, port = started[0]
    assert (host, port, editor.layers) == ("127.0.0.1", 8000, [0, 2])
    result = run("serve", *arguments, "--host=0.0.0.0", "--port=80")
    assert "Warning: other machines in the network can reach this page; it asks for no password" in result.output
    assert started[1][1:] == ("0.0.0.0", 80)


def test_directions_without_a_slider_are_told(network, tmp_path, started):
    path, G = network
    stored = StoredVectors("directions", torch.ones(51, 8), torch.ones(51), {"layers": [0]})
    save_vectors(tmp_path / "d.safetensors", stored, G)
    result = run("serve", f"--network={path}", f"--directions={tmp_path / 'd.safetensors'}")
    assert "Warning: the page has sliders for the first 50 of 51 directions\n" in result.output
    assert len(started) == 1


def test_directions_of_another_class_are_refused(tmp_path, started):
    G = tiny_snapshot.write(tmp_path / "network.pkl", c_dim=2)
    path = tmp_path / "d.safetensors"
    stored = StoredVectors("directions", torch.eye(8)[:2], torch.ones(2), {"layers": [0], "class": 1})
    save_vectors(path, stored, G)
    arguments = (f"--network={tmp_path / 'network.pkl'}", f"--directions={path}")
    assert run("serve", *arguments, "--class=0").output == f"Error: {path} was made for class 1, not --class=0\n"
    assert not started
    assert run("serve", *arguments, "--class=1").exit_code == 0
    assert len(started) == 1


@pytest.mark.parametrize("layers", [None, [], [99], ["0"], [True], [0.5], "0", [0] * 99])
def test_layers_in_a_file_are_checked(network, tmp_path, started, layers):
    path, G = network
    save(tmp_path / "d.safetensors", G, layers)
    said = run("serve", f"--network={path}", f"--directions={tmp_path / 'd.safetensors'}").output
    assert said.endswith("its settings name no layers of this network; recreate it\n")
    assert not started


@pytest.mark.parametrize(("host", "shown"), [("203.0.113.1", "203.0.113.1"), ("\u00e4..b", "'\\xe4..b'")])
def test_an_address_that_cannot_be_had_is_told(network, tmp_path, host, shown):
    path, G = network
    save(tmp_path / "d.safetensors", G, [0])
    said = run("serve", f"--network={path}", f"--directions={tmp_path / 'd.safetensors'}", f"--host={host}").output
    assert said.startswith(f"Error: --host={shown} --port=8000: ")
    assert len(said.splitlines()) == 1


def test_an_empty_host_does_not_let_all_others_in(network, tmp_path, started):
    path, G = network
    save(tmp_path / "d.safetensors", G, [0])
    said = run("serve", f"--network={path}", f"--directions={tmp_path / 'd.safetensors'}", "--host=").output
    assert said.startswith("Error: --host= names no address; 127.0.0.1 is this machine")
    assert not started
