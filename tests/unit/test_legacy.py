import copy
import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import legacy
from dnnlib.util import EasyDict, UserError
from legacy import load_network_pkl
from msconD.discriminator import MsConDDiscriminator
from tests.helpers import REPOSITORY
from tests.malicious_pickles import TUPLE1, all_malicious_pickles, put
from torch_utils.persistence import _reconstruct_persistent_obj
from training.augment import AugmentPipe
from training.networks import Discriminator, Generator

SMALL = {"channel_base": 64, "channel_max": 8}
DATASET = EasyDict(class_name="training.dataset.ImageFolderDataset", path="images.zip", xflip=True, max_size=70_000)


def small_snapshot() -> dict:
    G = Generator(8, 3, 8, 16, 3, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=SMALL)
    for module in G.modules():
        if hasattr(module, "noise_strength"):
            torch.nn.init.normal_(module.noise_strength)
    G_ema = copy.deepcopy(G)
    torch.nn.init.normal_(G_ema.mapping.fc0.weight)
    D = Discriminator(c_dim=3, img_resolution=16, img_channels=3, **SMALL, block_kwargs={"freeze_layers": 2})
    augment_pipe = AugmentPipe(xflip=1, scale=0.5)
    augment_pipe.p.fill_(0.25)
    return {"training_set_kwargs": DATASET, "G": G, "D": D, "G_ema": G_ema, "augment_pipe": augment_pipe}


def loads(data: bytes, **options) -> dict:
    return load_network_pkl(io.BytesIO(data), **options)


def images(G: torch.nn.Module) -> torch.Tensor:
    z = torch.from_numpy(np.random.RandomState(0).randn(3, G.z_dim)).float()
    return G(z, torch.eye(3, G.c_dim), truncation_psi=0.7, noise_mode="const")


def logits(D: torch.nn.Module) -> torch.Tensor:
    img = torch.from_numpy(np.random.RandomState(1).randn(3, 3, D.img_resolution, D.img_resolution)).float()
    return D(img, torch.eye(3, D.c_dim))


def assert_same_networks(loaded: dict, original: dict) -> None:
    for key in ("G", "G_ema"):
        assert torch.equal(images(loaded[key]), images(original[key].eval()))
    assert torch.equal(logits(loaded["D"]), logits(original["D"].eval()))
    assert loaded["augment_pipe"].p == 0.25
    for key in ("G", "D", "G_ema", "augment_pipe"):
        assert loaded[key].init_kwargs == original[key].init_kwargs


class Described:
    """Pickles a persistent module with another source text, state or class name."""

    def __init__(self, module: torch.nn.Module, source: str = "", class_name: str = "", **state) -> None:
        self.module, self.source, self.class_name, self.state = module, source, class_name, state

    def __reduce__(self):
        children = {name: Described(child, self.source) for name, child in self.module.named_children()}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name or type(self.module).__name__,
            "state": {**vars(self.module), "_modules": children, **self.state},
        }
        return _reconstruct_persistent_obj, (meta,)


def described(snapshot: dict, source: str) -> dict:
    return {key: Described(value, source) if key != "training_set_kwargs" else value for key, value in snapshot.items()}


def error_of(snapshot: dict, **changes) -> str:
    with pytest.raises(UserError) as caught:
        loads(pickle.dumps({**snapshot, **changes}))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# Safe loading


def test_our_snapshots_are_read():
    snapshot = small_snapshot()
    loaded = loads(pickle.dumps(snapshot))
    assert_same_networks(loaded, snapshot)
    assert loaded["training_set_kwargs"] == DATASET
    assert loaded["training_set_kwargs"].path == "images.zip"
    assert sorted(loaded) == sorted(snapshot)


def test_networks_are_ready_for_use():
    loaded = loads(pickle.dumps(small_snapshot()))
    for network in (loaded["G"], loaded["D"], loaded["G_ema"], loaded["augment_pipe"]):
        assert not any(module.training for module in network.modules())
        tensors = [*network.parameters(), *network.buffers()]
        assert not any(tensor.requires_grad or tensor.device.type != "cpu" for tensor in tensors)


def test_loaded_snapshots_can_be_saved_and_trained_again():
    snapshot = small_snapshot()
    loaded = loads(pickle.dumps(loads(pickle.dumps(snapshot))))
    assert_same_networks(loaded, snapshot)
    images(loaded["G"].train().requires_grad_(True)).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded["G"].parameters())


def test_frozen_layers_stay_frozen():
    snapshot = small_snapshot()
    loaded = loads(pickle.dumps(snapshot))
    assert list(dict(loaded["D"].named_parameters())) == list(dict(snapshot["D"].named_parameters()))


def test_official_snapshots_are_read_without_executing_their_source(tmp_path):
    canary = tmp_path / "canary"
    snapshot = small_snapshot()
    data = pickle.dumps(described(snapshot, f"open({str(canary)!r}, 'w').close()"))
    assert_same_networks(loads(data), snapshot)
    assert not canary.exists()


@pytest.mark.parametrize("augment_pipe", [None, "absent"])
def test_augment_pipe_and_dataset_may_be_absent(augment_pipe):
    snapshot = small_snapshot() | {"augment_pipe": None, "training_set_kwargs": None}
    if augment_pipe == "absent":
        del snapshot["augment_pipe"], snapshot["training_set_kwargs"]
    loaded = loads(pickle.dumps(snapshot))
    assert (loaded["augment_pipe"], loaded["training_set_kwargs"]) == (None, None)


def test_the_multi_scale_discriminator_is_read():
    D = MsConDDiscriminator(3, 16, 3, scales=(1, 4), proj_dim=4, **SMALL).eval()
    loaded = loads(pickle.dumps({**small_snapshot(), "D": D}))
    assert type(loaded["D"]) is MsConDDiscriminator
    assert torch.equal(logits(loaded["D"]), logits(D))


FRESH_PROCESS = """
import io, sys
import legacy, msconD.discriminator, training.augment, training.networks
import numpy, torch

FORBIDDEN = ("exec", "compile", "import", "os.", "subprocess.", "ctypes.", "pickle.find_class", "socket.", "shutil.")
legacy.known_classes()
data = open(sys.argv[1], "rb").read()
events = []
is_watched = True
sys.addaudithook(lambda event, args: events.append(event) if is_watched and event.startswith(FORBIDDEN) else None)
G = legacy.load_network_pkl(io.BytesIO(data))["G_ema"]
is_watched = False
assert not events, events
z = torch.from_numpy(numpy.random.RandomState(0).randn(3, 8)).float()
numpy.save(sys.argv[2], G(z, torch.eye(3), truncation_psi=0.7, noise_mode="const").numpy())
"""


def test_a_fresh_process_reads_and_generates_without_suspicious_events(tmp_path):
    snapshot = small_snapshot()
    (tmp_path / "snapshot.pkl").write_bytes(pickle.dumps(described(snapshot, "raise SystemExit")))
    command = [sys.executable, "-c", FRESH_PROCESS, tmp_path / "snapshot.pkl", tmp_path / "images.npy"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), images(snapshot["G_ema"].eval()).detach())


# Refusals


@pytest.mark.parametrize("attack", sorted(all_malicious_pickles(Path("canary"))))
def test_malicious_pickles_are_refused(attack, tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(UserError):
        loads(all_malicious_pickles(canary)[attack])
    assert not canary.exists()


def test_refusals_name_the_file_the_global_and_the_way_out(tmp_path):
    (tmp_path / "x.pkl").write_bytes(all_malicious_pickles(tmp_path)["os.system"])
    with open(tmp_path / "x.pkl", "rb") as f, pytest.raises(UserError) as caught:
        load_network_pkl(f)
    assert re.search(r"x\.pkl: .*'os\.system'.*--trust-pickle.*trusted=True", str(caught.value))


def test_unknown_classes_are_refused():
    snapshot = small_snapshot()
    error = error_of(snapshot, G=Described(snapshot["G"], class_name="MyGenerator"))
    assert "'MyGenerator'" in error
    assert "--trust-pickle" in error
    assert "Discriminator" in error_of(snapshot, G=snapshot["D"])


@pytest.mark.parametrize("settings", [{}, {"class_name": "os.system", "command": "x"}, {"class_name": None}])
def test_settings_of_any_dataset_are_kept_and_not_used(settings):
    loaded = loads(pickle.dumps({**small_snapshot(), "training_set_kwargs": settings}))
    assert loaded["training_set_kwargs"] == settings


def test_settings_of_the_dataset_are_plain_data():
    cyclic: list = []
    cyclic.append(cyclic)
    wide: list = []
    for _ in range(100):
        wide = [wide, wide]
    for value in (cyclic, wide, [0] * 2000, torch.zeros(1), b"x"):
        assert "training_set_kwargs" in error_of(small_snapshot(), training_set_kwargs={**DATASET, "path": value})
    nested = b"}" + put("training_set_kwargs") + b"}" + put("path") + b")" + TUPLE1 * 200_000 + b"ss."
    with pytest.raises(UserError, match="training_set_kwargs: more than"):
        loads(nested)


@pytest.mark.parametrize("data", [[], "text", None, 1, (1, 2, 3), {}, {"G": 1, "D": 2, "G_ema": 3}])
def test_other_pickles_are_errors(data):
    with pytest.raises(UserError, match="snapshot: "):
        loads(pickle.dumps(data))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"<html>", b"PK\x03\x04"])
def test_other_files_are_errors(data, trusted):
    with pytest.raises(UserError, match="snapshot: "):
        loads(data, trusted=trusted)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(("data", "said"), [(b"PK\x03\x04", "a zip file"), (b"<!DOCTYPE html>", "a web page")])
def test_what_people_take_for_snapshots_is_named(data, said, trusted):
    with pytest.raises(UserError, match=f"^snapshot: no snapshot but {said}"):
        loads(data, trusted=trusted)


# Trusted loading


def test_trusted_files_execute_their_source(tmp_path):
    canary = tmp_path / "canary"
    snapshot = small_snapshot()
    source = (REPOSITORY / "training/networks.py").read_text() + f"\nopen({str(canary)!r}, 'w').close()\n"
    data = pickle.dumps({**described(snapshot, source), "augment_pipe": snapshot["augment_pipe"]})
    loads(data)
    assert not canary.exists()
    loaded = loads(data, trusted=True)
    assert canary.exists()
    assert type(loaded["G"]) is not Generator
    assert torch.equal(images(loaded["G"]), images(snapshot["G"]))


# Half precision


@pytest.mark.parametrize("trusted", [False, True])
def test_force_fp16_rebuilds_the_networks(trusted):
    snapshot = small_snapshot()
    loaded = loads(
        pickle.dumps({key: net.eval() if key in "GD" else net for key, net in snapshot.items()}),
        force_fp16=True,
        trusted=trusted,
    )
    assert loaded["G"].init_kwargs.synthesis_kwargs == {**SMALL, "num_fp16_res": 4, "conv_clamp": 256}
    assert loaded["D"].init_kwargs.num_fp16_res == 4
    assert [loaded["G_ema"].synthesis.b8.use_fp16, loaded["D"].b16.use_fp16] == [True, True]
    assert [loaded["G_ema"].synthesis.b8.conv1.conv_clamp, loaded["D"].b8.conv0.conv_clamp] == [256, 256]
    assert torch.equal(images(loaded["G_ema"]), images(snapshot["G_ema"].eval()))  # the CPU keeps to float32
    assert not loaded["G"].training


# Command line


def run_cli(*arguments: str):
    return CliRunner().invoke(legacy.convert_network_pickle, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("flags", "num_fp16_res"), [([], 0), (["--force-fp16"], 4), (["--force-fp16=1"], 4), (["--force-fp16", "false"], 0)]
)
def test_cli_converts(flags, num_fp16_res, tmp_path):
    snapshot = small_snapshot()
    source, dest = tmp_path / "source.pkl", tmp_path / "dest.pkl"
    source.write_bytes(pickle.dumps(described(snapshot, "nothing that could be executed")))
    result = run_cli("--source", source, *flags, "--dest", dest)
    assert result.exit_code == 0, result.output
    loaded = loads(dest.read_bytes(), trusted=True)
    assert loaded["G"].init_kwargs.synthesis_kwargs.get("num_fp16_res", 0) == num_fp16_res
    assert torch.equal(images(loaded["G_ema"]), images(snapshot["G_ema"].eval()))


def test_cli_errors_are_one_line(tmp_path):
    (tmp_path / "bad.pkl").write_bytes(all_malicious_pickles(tmp_path)["os.system"])
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(small_snapshot()))
    for source, dest in (("missing.pkl", "a.pkl"), ("bad.pkl", "a.pkl"), ("good.pkl", "missing/a.pkl")):
        result = run_cli("--source", tmp_path / source, "--dest", tmp_path / dest)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert len(result.output.splitlines()) == 1
        assert ".tmp" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pkl", "good.pkl"]


def test_cli_executes_only_on_request(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "x.pkl").write_bytes(all_malicious_pickles(canary)["os.system"])
    for flags, is_executed in (([], False), (["--trust-pickle"], True)):
        run_cli("--source", tmp_path / "x.pkl", "--dest", tmp_path / "y.pkl", *flags)
        assert canary.exists() == is_executed
