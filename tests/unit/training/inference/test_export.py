import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests import tiny_snapshot
from tests.helpers import assert_close
from training.inference import export as module
from training.inference import programs
from training.inference.export import export
from training.networks import Generator
from training.snapshots.portable import load_portable, save_portable

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in programs.ONNX_PACKAGES), reason="extra 'onnx' is not installed"
)


def run(*args):
    return CliRunner().invoke(export, [*map(str, args)])


@pytest.fixture
def snapshot(tmp_path):
    return tmp_path / "snapshot.pkl"


@torch.no_grad()
def images(G, psi):
    z = torch.from_numpy(np.random.RandomState(5).randn(5, G.z_dim)).float()
    c = torch.eye(5, G.c_dim)
    return z, c, G(z, c, truncation_psi=psi, noise_mode="const")


def largest_difference(line):
    return float(line.split(" at most ")[1])


def test_safetensors(snapshot, tmp_path):
    G = tiny_snapshot.write(snapshot, c_dim=2)
    result = run(f"--network={snapshot}", f"--dest={tmp_path / 'out'}")
    files = f"{tmp_path / 'out' / 'model.safetensors'}, {tmp_path / 'out' / 'config.json'}"
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"Wrote {files}: their images differ from those of the network by at most 0.0e+00",
        f"Next: python generate.py --network={tmp_path / 'out'} --outdir=out --seeds=0-35 --class=0",
    ]
    z, c, img = images(G, 0.7)
    assert torch.equal(load_portable(tmp_path / "out")(z, c, truncation_psi=0.7, noise_mode="const"), img)


def test_an_exported_folder_can_be_exported_again(snapshot, tmp_path):
    tiny_snapshot.write(snapshot)
    assert run(f"--network={snapshot}", f"--dest={tmp_path / 'a'}").exit_code == 0
    assert run(f"--network={tmp_path / 'a'}", f"--dest={tmp_path / 'b'}").exit_code == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


ELSEWHERE = """
import sys
import numpy as np
import torch
mapping, synthesis = (torch.export.load(f"{name}.pt2").module() for name in ("mapping", "synthesis"))
given = np.load("inputs.npz")
inputs = {name: torch.from_numpy(given[name]) for name in given.files}
np.save("img.npy", synthesis(ws=mapping(**inputs)).numpy())
assert "training" not in sys.modules
"""


@pytest.mark.slow
def test_pt2_runs_without_this_project(snapshot, tmp_path):
    G = tiny_snapshot.write(snapshot, c_dim=2)
    result = run(f"--network={snapshot}", f"--dest={tmp_path}", "--format=pt2")
    assert result.exit_code == 0
    assert largest_difference(result.output) <= 1e-4
    z, c, img = images(G, 0.5)
    np.savez(tmp_path / "inputs.npz", z=z, c=c, truncation_psi=np.float32(0.5))
    subprocess.run([sys.executable, "-I", "-c", ELSEWHERE], cwd=tmp_path, check=True)
    assert_close(np.load(tmp_path / "img.npy"), img)


@needs_onnx
@pytest.mark.slow
def test_onnx_runs_at_any_batch_size(snapshot, tmp_path):
    import onnxruntime

    G = tiny_snapshot.write(snapshot, img_channels=1)
    result = run(f"--network={snapshot}", f"--dest={tmp_path}", "--format=onnx, safetensors")
    assert result.exit_code == 0
    assert all(largest_difference(line) <= 1e-4 for line in result.output.splitlines()[:-1])
    assert {file.name for file in tmp_path.iterdir()} == {
        "snapshot.pkl", "mapping.onnx", "synthesis.onnx", "model.safetensors", "config.json"
    }  # fmt: skip
    mapping, synthesis = (onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("mapping", "synthesis"))
    assert [value.name for value in mapping.get_inputs() + mapping.get_outputs()] == ["z", "truncation_psi", "ws"]
    assert [value.name for value in synthesis.get_inputs() + synthesis.get_outputs()] == ["ws", "img"]
    z, _, img = images(G, 1)
    (ws,) = mapping.run(None, {"z": z.numpy(), "truncation_psi": np.array(1, np.float32)})
    assert_close(synthesis.run(None, {"ws": ws})[0], img)


def test_a_difference_is_noticed_and_removes_the_files(snapshot, tmp_path, monkeypatch):
    tiny_snapshot.write(snapshot)

    def load_and_spoil(folder):
        G = load_portable(folder)
        G.synthesis.b16.torgb.bias += 2e-4
        return G

    monkeypatch.setattr(module, "load_portable", load_and_spoil)
    result = run(f"--network={snapshot}", f"--dest={tmp_path / 'out'}")
    assert result.exit_code == 1
    said = "config.json: their images differ from those of the network by 2.0e-04, at most 0.0001 is allowed\n"
    assert result.output.startswith(f"Error: removed {tmp_path / 'out' / 'model.safetensors'}, ")
    assert result.output.endswith(said)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("wrong", [{"psi": 0.5}, {"psi": 1.0}, {"num": 1}, {"num": 3}, {"num": 8}])
def test_every_batch_size_and_truncation_is_compared(wrong):
    G = tiny_snapshot.generator(c_dim=2)

    def draw(z, c, psi):
        img = G(z, c, truncation_psi=psi, noise_mode="const")
        return img * float("nan") if wrong in ({"psi": psi}, {"num": len(z)}) else img

    assert np.isnan(module.largest_error(G, draw))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format=onnx,torchscript"], "'torchscript': choose from safetensors, pt2, onnx"),
        (["--network=absent.pkl"], "--network=absent.pkl: no such file or folder"),
        (["--dest=g.onnx"], "is the name of a folder; for this format add --format=onnx"),
    ],
)
def test_user_errors_are_one_line(snapshot, tmp_path, arguments, said):
    tiny_snapshot.write(snapshot)
    result = run(f"--network={snapshot}", f"--dest={tmp_path / 'out'}", *arguments)
    assert result.exit_code != 0
    assert said in result.output.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_is_not_exported_onto_itself(tmp_path):
    """Its files are removed if their images differ."""
    save_portable(tmp_path / "network", tiny_snapshot.generator())
    before = {path: path.read_bytes() for path in (tmp_path / "network").iterdir()}
    result = run(f"--network={tmp_path / 'network'}", f"--dest={tmp_path / 'network'}")
    assert result.exit_code == 1
    assert f"{tmp_path / 'network'} would replace --network=" in result.output
    assert {path: path.read_bytes() for path in (tmp_path / "network").iterdir()} == before
    assert run(f"--network={tmp_path / 'network'}", f"--dest={tmp_path / 'network'}/../other").exit_code == 0


def test_a_network_that_cannot_truncate_is_compared_without_truncation(tmp_path):
    without = {"num_layers": 2, "w_avg_beta": None}
    G = Generator(8, 0, 8, 16, 3, mapping_kwargs=without, synthesis_kwargs=tiny_snapshot.SMALL)
    save_portable(tmp_path / "network", G)
    result = run(f"--network={tmp_path / 'network'}", f"--dest={tmp_path / 'out'}")
    assert result.exit_code == 0
    assert largest_difference(result.output.splitlines()[0]) == 0
    z, c, img = images(G, 1)
    assert torch.equal(load_portable(tmp_path / "out")(z, c, noise_mode="const"), img)


def test_missing_onnx_packages_are_named(snapshot, tmp_path, monkeypatch):
    tiny_snapshot.write(snapshot)
    monkeypatch.setattr(programs, "ONNX_PACKAGES", ("torch", "absent_package"))
    result = run(f"--network={snapshot}", f"--dest={tmp_path / 'out'}", "--format=onnx")
    assert (result.exit_code, result.output) == (1, "Error: ONNX needs absent_package: pip install '.[onnx]'\n")
