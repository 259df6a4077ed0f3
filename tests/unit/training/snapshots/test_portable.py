import json
import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from dnnlib.atomic import write_atomic
from dnnlib.errors import UserError
from tests import tiny_snapshot
from tests.fuzzing import fuzz, num_rounds, run_bounded
from tests.helpers import REPOSITORY
from tests.image_files import LFS_POINTER
from training.snapshots import portable
from training.snapshots.portable import load_portable, save_portable


@pytest.fixture
def saved(tmp_path):
    G = tiny_snapshot.generator(c_dim=2)
    save_portable(tmp_path / "new" / "folder", G)
    return tmp_path / "new" / "folder", G


def test_round_trip(saved):
    folder, G = saved
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_portable(folder)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.state_dict().keys() == G.state_dict().keys()
    assert all(torch.equal(tensor, G.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    z, c = torch.randn(3, 8), torch.eye(3, 2)
    assert torch.equal(loaded(z, c, noise_mode="const"), G(z, c, noise_mode="const"))


def test_settings_have_names_whatever_the_call_was(saved):
    config = json.loads((saved[0] / "config.json").read_text())
    assert config["class_name"] == "training.networks.Generator"
    assert config["init_kwargs"] == {
        "z_dim": 8, "c_dim": 2, "w_dim": 8, "img_resolution": 16, "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": {"channel_base": 64, "channel_max": 8},
    }  # fmt: skip


def test_tensors_with_strides_and_shared_memory(tmp_path):
    G = tiny_snapshot.generator()
    G.synthesis.b8.conv0.weight.data = G.synthesis.b8.conv1.weight.data.to(memory_format=torch.channels_last)
    G.synthesis.b8.conv1.weight.data = G.synthesis.b8.conv0.weight.data
    save_portable(tmp_path, G)
    loaded = load_portable(tmp_path)
    assert torch.equal(loaded.synthesis.b8.conv1.weight, G.synthesis.b8.conv1.weight)


NO_PICKLE = """
import pickle, sys
import generate

def refuse(*args, **kwargs):
    raise AssertionError("unpickled")

pickle.load = pickle.loads = pickle.Unpickler = refuse
pickle._load = pickle._loads = pickle._Unpickler = refuse
generate.generate_images(sys.argv[1:])
"""


def generate_without_pickle(network, tmp_path):
    arguments = [f"--network={network}", f"--outdir={tmp_path / 'out'}", "--seeds=0", "--class=1", "--device=cpu"]
    command = [sys.executable, "-W", "error", "-c", NO_PICKLE, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.slow
def test_a_new_process_reads_it_without_unpickling(saved, tmp_path):
    result = generate_without_pickle(saved[0], tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "seed0000.png").is_file()


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def edit_settings(folder, **changes):
    settings = json.loads((folder / "config.json").read_text())["init_kwargs"]
    edit_config(folder, init_kwargs={**settings, **changes})


def edit_weights(folder, change):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: (f / "config.json").unlink(),
            "neither a run folder nor an exported generator .it holds no config.json.: give a",
        ),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read: "),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), "config.json cannot be read: "),
        (lambda f: (f / "config.json").write_text("[]"), "class_name must be one of "),
        (lambda f: edit_config(f, class_name="os.system"), "class_name must be one of "),
        (lambda f: edit_config(f, init_kwargs=[1]), "init_kwargs must be the settings"),
        (lambda f: edit_settings(f, z_dim=1 << 30), "'z_dim' is 1073741824, at most"),
        (lambda f: edit_settings(f, w_dim=1 << 20), "more weights than the file holds"),
        (lambda f: edit_settings(f, nonsense=1), "nonsense"),
        (
            lambda f: edit_settings(f, img_resolution=8),
            "tensor 'synthesis.b16.conv0.affine.bias': config.json asks for",
        ),
        (lambda f: edit_settings(f, w_dim=9), "tensor 'mapping.fc0.weight'|more weights|tensor 'mapping"),
        (lambda f: edit_weights(f, lambda t: t.pop("mapping.w_avg")), "'mapping.w_avg': config.json asks for .8., mod"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "model.safetensors cannot be read"),
    ],
)
def test_damage_is_told_in_one_line(saved, spoil, said):
    spoil(saved[0])
    with pytest.raises(UserError, match=said) as caught:
        load_portable(saved[0])
    assert str(saved[0]) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


START = '{"class_name": "training.networks.Generator", "init_kwargs": '


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 60_000, "cannot be read"),
        (" " * (2 << 20), "config.json cannot be read: 'larger than 1 MiB"),
        (
            START + '{"z_dim": 1' + "0" * 400 + "}}",
            "'z_dim' is 1000",
        ),
        (START + '{"z_dim": 1' + "0" * 5000 + "}}", "cannot be read"),
        (START + '{"\\u001b[2J": 1}}', r"\\x1b\[2J"),
        (START + '{"z_dim": NaN}}', "cannot be built"),
        ('{"class_name": ["\\u001b"]}', "class_name must be"),
    ],
)
def test_strange_settings_are_one_line(saved, text, said):
    (saved[0] / "config.json").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        load_portable(saved[0])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_sparse_files_are_not_read_to_the_end(saved):
    with open(saved[0] / "config.json", "r+b") as file:
        file.truncate(1 << 40)

    def read() -> None:
        with pytest.raises(UserError, match=r"config\.json cannot be read: 'larger than 1 MiB"):
            load_portable(saved[0])

    run_bounded(read, max_bytes=64 << 20)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_pipes_are_not_waited_for(saved, name):
    (saved[0] / name).unlink()
    os.mkfifo(saved[0] / name)
    with pytest.raises(UserError, match=r"holds no config\.json|model\.safetensors cannot be read"):
        load_portable(saved[0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_weights_are_floating_point(saved, dtype):
    edit_weights(saved[0], lambda t: t.update({"mapping.w_avg": t["mapping.w_avg"].to(dtype)}))
    with pytest.raises(UserError, match=r"'mapping\.w_avg': model\.safetensors has .*, not floating point"):
        load_portable(saved[0])


def test_half_precision_becomes_float32(saved):
    edit_weights(saved[0], lambda t: t.update({name: tensor.half() for name, tensor in t.items()}))
    assert {tensor.dtype for tensor in load_portable(saved[0]).state_dict().values()} == {torch.float32}


def test_weights_that_are_not_finite(saved, caplog):
    edit_weights(saved[0], lambda t: t["mapping.w_avg"].fill_(torch.nan))
    assert load_portable(saved[0]).mapping.w_avg.isfinite().all()
    assert "G_ema: mapping.w_avg was not finite" in caplog.text
    edit_weights(saved[0], lambda t: t["mapping.fc0.weight"].fill_(torch.nan))
    with pytest.raises(UserError, match=r"'mapping\.w_avg' and 1 more tensors are not finite"):
        load_portable(saved[0])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_fuzzed_folders(saved, name):
    path = saved[0] / name

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_portable(saved[0])

    num = num_rounds(100)
    assert fuzz(read, [path.read_bytes()], num) > num / 10


def test_foreign_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"torch.nn.modules.linear.Linear cannot be described"):
        save_portable(tmp_path, torch.nn.Linear(1, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": "{}"},
        {"config.json": '{"model_type": "bert"}', "model.safetensors": ""},
        {"model.safetensors": ""},
    ],
)
def test_another_model_is_not_replaced(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"{' and '.join(files)} of something else, which would be replaced: choose"):
        save_portable(tmp_path, tiny_snapshot.generator())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_generator_is_replaced(saved):
    folder, _G = saved
    G = tiny_snapshot.generator(c_dim=3)
    save_portable(folder, G)
    assert load_portable(folder).c_dim == 3


def killed_while_saving(monkeypatch, folder, G, name):
    def write_or_die(path, data):
        if path.name == name:
            raise KeyboardInterrupt
        write_atomic(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(portable, "write_atomic", write_or_die)
        with pytest.raises(KeyboardInterrupt):
            save_portable(folder, G)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_half_export_does_not_load_and_is_replaced(tmp_path, monkeypatch, name):
    folder, G = tmp_path / "folder", tiny_snapshot.generator()
    killed_while_saving(monkeypatch, folder, G, name)
    with pytest.raises(UserError, match=r"holds no config\.json|model\.safetensors cannot be read"):
        load_portable(folder)
    save_portable(folder, G)
    assert torch.equal(load_portable(folder).mapping.w_avg, G.mapping.w_avg)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_weights_never_stand_beside_the_settings_of_another_generator(saved, monkeypatch, name):
    folder, _G = saved
    other = tiny_snapshot.generator(c_dim=3)
    killed_while_saving(monkeypatch, folder, other, name)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_portable(folder)
    save_portable(folder, other)
    assert load_portable(folder).c_dim == 3


def test_a_kill_leaves_the_earlier_weights_of_the_same_settings(saved, monkeypatch):
    folder, G = saved
    killed_while_saving(monkeypatch, folder, tiny_snapshot.generator(c_dim=2), "model.safetensors")
    assert torch.equal(load_portable(folder).mapping.w_avg, G.mapping.w_avg)


def test_a_generator_in_training_is_saved_and_stays_in_training(tmp_path):
    G = tiny_snapshot.generator().train().requires_grad_(True)
    save_portable(tmp_path, G)
    assert G.training
    assert all(parameter.requires_grad for parameter in G.parameters())
    assert not load_portable(tmp_path).training


def test_weights_that_git_did_not_fetch(saved):
    folder, _G = saved
    (folder / "model.safetensors").write_bytes(LFS_POINTER)
    with pytest.raises(UserError, match=r"model\.safetensors is a Git LFS pointer, whose file comes by git lfs pull$"):
        load_portable(folder)
