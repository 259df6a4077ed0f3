import copy
import io
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from msconD.discriminator import MsConDDiscriminator
from tests import tiny_snapshot
from tests.fuzzing import check_memory, fuzz, num_rounds, run_bounded
from tests.greedy_pickles import BASE_BYTES, MEMORY_PER_FILE_BYTE, trees
from tests.helpers import REPOSITORY
from tests.malicious_pickles import STOP, TUPLE1, all_malicious_pickles, put
from tests.tiny_snapshot import DATASET, SMALL, Described, described, images, logits
from training.networks import Discriminator, Generator
from training.snapshots.load import load_network_pkl, load_networks


def loads(data: bytes, **options) -> dict:
    return load_network_pkl(io.BytesIO(data), **options)


def assert_same_networks(loaded: dict, original: dict) -> None:
    for key in ("G", "G_ema"):
        assert torch.equal(images(loaded[key]), images(original[key].eval()))
    assert torch.equal(logits(loaded["D"]), logits(original["D"].eval()))
    assert loaded["augment_pipe"].p == 0.25
    for key in ("G", "D", "G_ema", "augment_pipe"):
        assert loaded[key].init_kwargs == original[key].init_kwargs


def error_of(snapshot: dict, **changes) -> str:
    with pytest.raises(UserError) as caught:
        loads(pickle.dumps({**snapshot, **changes}))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_our_snapshots_are_read():
    snapshot = tiny_snapshot.snapshot()
    loaded = loads(pickle.dumps(snapshot))
    assert_same_networks(loaded, snapshot)
    assert loaded["training_set_kwargs"] == snapshot["training_set_kwargs"]
    assert loaded["training_set_kwargs"].path == "images.zip"
    assert sorted(loaded) == sorted(snapshot)


def test_networks_are_ready_for_use():
    loaded = loads(pickle.dumps(tiny_snapshot.snapshot()))
    for network in (loaded["G"], loaded["D"], loaded["G_ema"], loaded["augment_pipe"]):
        assert not any(module.training for module in network.modules())
        tensors = [*network.parameters(), *network.buffers()]
        assert not any(tensor.requires_grad or tensor.device.type != "cpu" for tensor in tensors)


def test_loaded_snapshots_can_be_saved_and_trained_again():
    snapshot = tiny_snapshot.snapshot()
    loaded = loads(pickle.dumps(loads(pickle.dumps(snapshot))))
    assert_same_networks(loaded, snapshot)
    images(loaded["G"].train().requires_grad_(True)).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded["G"].parameters())


def test_frozen_layers_stay_frozen():
    snapshot = tiny_snapshot.snapshot()
    loaded = loads(pickle.dumps(snapshot))
    assert list(dict(loaded["D"].named_parameters())) == list(dict(snapshot["D"].named_parameters()))


def test_official_snapshots_are_read_without_executing_their_source(tmp_path):
    canary = tmp_path / "canary"
    snapshot = tiny_snapshot.snapshot()
    data = pickle.dumps(described(snapshot, f"open({str(canary)!r}, 'w').close()"))
    assert_same_networks(loads(data), snapshot)
    assert not canary.exists()


@pytest.mark.parametrize("augment_pipe", [None, "absent"])
def test_augment_pipe_and_dataset_may_be_absent(augment_pipe):
    snapshot = tiny_snapshot.snapshot() | {"augment_pipe": None, "training_set_kwargs": None}
    if augment_pipe == "absent":
        del snapshot["augment_pipe"], snapshot["training_set_kwargs"]
    loaded = loads(pickle.dumps(snapshot))
    assert (loaded["augment_pipe"], loaded["training_set_kwargs"]) == (None, None)


def test_the_multi_scale_discriminator_is_read():
    D = MsConDDiscriminator(3, 16, 3, scales=(1, 4), proj_dim=4, **SMALL).eval()
    loaded = loads(pickle.dumps({**tiny_snapshot.snapshot(), "D": D}))
    assert type(loaded["D"]) is MsConDDiscriminator
    assert torch.equal(logits(loaded["D"]), logits(D))


FRESH_PROCESS = """
import io, sys
import legacy, msconD.discriminator, training.augment, training.networks
from training.snapshots import load
import numpy, torch

FORBIDDEN = ("exec", "compile", "import", "os.", "subprocess.", "ctypes.", "pickle.find_class", "socket.", "shutil.")
load.known_classes()
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


@pytest.mark.slow
def test_a_fresh_process_reads_and_generates_without_suspicious_events(tmp_path):
    snapshot = tiny_snapshot.snapshot()
    (tmp_path / "snapshot.pkl").write_bytes(pickle.dumps(described(snapshot, "raise SystemExit")))
    command = [sys.executable, "-c", FRESH_PROCESS, tmp_path / "snapshot.pkl", tmp_path / "images.npy"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), images(snapshot["G_ema"].eval()).detach())


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
    snapshot = tiny_snapshot.snapshot()
    error = error_of(snapshot, G=Described(snapshot["G"], class_name="MyGenerator"))
    assert "'MyGenerator'" in error
    assert "--trust-pickle" in error
    assert "Discriminator" in error_of(snapshot, G=snapshot["D"])


@pytest.mark.parametrize("settings", [{}, {"class_name": "os.system", "command": "x"}, {"class_name": None}])
def test_settings_of_any_dataset_are_kept_and_not_used(settings):
    loaded = loads(pickle.dumps({**tiny_snapshot.snapshot(), "training_set_kwargs": settings}))
    assert loaded["training_set_kwargs"] == settings


@pytest.mark.slow
def test_settings_of_the_dataset_are_plain_data():
    cyclic: list = []
    cyclic.append(cyclic)
    wide: list = []
    for _ in range(100):
        wide = [wide, wide]
    snapshot = tiny_snapshot.snapshot()
    for value in (cyclic, wide, [0] * 2000, torch.zeros(1), b"x"):
        assert "training_set_kwargs" in error_of(snapshot, training_set_kwargs={**DATASET, "path": value})
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
    with pytest.raises(UserError, match=f"^snapshot: not a snapshot but {said}"):
        loads(data, trusted=trusted)


class Foreign:
    """An ordinary object of another project; pickled by reference to its class."""

    def __init__(self):
        self.weight = torch.zeros(3)


def foreign_extras(tmp_path) -> dict:
    """What projects put beside the networks: heads, optimizers, numbers, arrays of text, and an attack."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    return {
        "D_head": Described(torch.nn.Linear(2, 2), class_name="CLHead"),
        "mlp": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()),
        "optimizer": torch.optim.Adam([parameter]),
        "optimizer_state": torch.optim.Adam([parameter]).state_dict(),
        "weights": OrderedDict(torch.nn.Linear(1, 1).state_dict()),
        "path": PurePosixPath("a/b"),
        "names": np.array(["cat", "dog"]),
        "objects": np.array([{}, None], dtype=object),
        "by_number": {1: "a", (2, 3): {4}, None: frozenset({5.0})},
        "device": torch.device("cpu"),
        "foreign": Foreign(),
        "rng": np.random.RandomState(0),
        "harm": Harm(tmp_path / "canary"),
    }


class Harm:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_stands_beside_the_networks_is_left_out_and_named(tmp_path, caplog, protocol):
    snapshot = tiny_snapshot.snapshot()
    extras = foreign_extras(tmp_path)
    data = pickle.dumps({**extras, **snapshot}, protocol)
    assert_same_networks(loads(data), snapshot)
    (note,) = load_networks(io.BytesIO(data)).notes
    for text in (note, caplog.text):
        assert "left out 'D_head' (CLHead), 'mlp' (torch.nn.modules.container.Sequential), 'optimizer'" in text
        assert "and 3 more, which StyleGAN2-ADA's snapshots do not have" in text
    assert not (tmp_path / "canary").exists()


def test_networks_not_asked_for_may_be_anything(tmp_path):
    snapshot = tiny_snapshot.snapshot()
    broken = {"D": Foreign(), "augment_pipe": Harm(tmp_path / "canary"), "training_set_kwargs": [1]}
    data = pickle.dumps({**snapshot, **broken, "G": Described(snapshot["G"], class_name="Other")})
    opened = load_networks(io.BytesIO(data), ["G_ema"])
    assert opened.notes == []
    assert opened.parts.keys() == {"G_ema"}
    assert torch.equal(images(opened.parts["G_ema"]), images(snapshot["G_ema"].eval()))
    for name, said in (
        ("D", r"D: is made by '[\w.]+test_load\.Foreign', which is not allowed\. If you trust"),
        ("augment_pipe", r"augment_pipe: is made by '(posix|nt)\.mkdir'"),
        ("G", "G: class 'Other' is not one of FastGANGenerator, Generator"),
        ("training_set_kwargs", "its training_set_kwargs are not a dict$"),
    ):
        with pytest.raises(UserError, match=said):
            load_networks(io.BytesIO(data), ["G_ema", name])
    assert not (tmp_path / "canary").exists()


def test_optional_parts_may_be_missing_but_no_network():
    data = pickle.dumps({"G_ema": tiny_snapshot.snapshot()["G_ema"], "g_opt\x1b": 1})
    parts = load_networks(io.BytesIO(data), ["G_ema", "augment_pipe", "training_set_kwargs"]).parts
    assert (parts["augment_pipe"], parts["training_set_kwargs"]) == (None, None)
    with pytest.raises(UserError, match=r"snapshot: holds no D, but 'G_ema' \(Generator\), 'g_opt\\x1b' \(int\);"):
        load_networks(io.BytesIO(data), ["D"])


def test_parts_that_no_snapshot_has():
    with pytest.raises(UserError, match=r"no parts \['E'\], only training_set_kwargs, G, D, G_ema, augment_pipe"):
        load_networks(io.BytesIO(), ["E"])


def test_trusted_files_are_read_in_parts_too():
    snapshot = tiny_snapshot.snapshot()
    data = pickle.dumps({"G_ema": snapshot["G_ema"].eval(), 5: 1})
    opened = load_networks(io.BytesIO(data), ["G_ema", "augment_pipe"], trusted=True)
    assert torch.equal(images(opened.parts["G_ema"]), images(snapshot["G_ema"]))
    assert opened.parts["augment_pipe"] is None
    assert opened.notes == ["left out '5' (int), which StyleGAN2-ADA's snapshots do not have"]
    with pytest.raises(UserError, match="holds no snapshot with G, G_ema"):
        load_networks(io.BytesIO(data), ["G", "G_ema"], trusted=True)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(protocol):
    snapshot = tiny_snapshot.snapshot()
    assert_same_networks(loads(pickle.dumps(described(snapshot, "# \u00e9" * 99), protocol)), snapshot)


@pytest.mark.parametrize("name", sorted(trees()))
def test_shared_containers_take_little_time_and_memory(name):
    data = trees()[name] + STOP

    def read() -> None:
        with pytest.raises(UserError) as caught:
            load_networks(io.BytesIO(data))
        check_memory(caught.value)
        assert str(caught.value).isprintable()

    run_bounded(read, max_bytes=BASE_BYTES + MEMORY_PER_FILE_BYTE * len(data))


def smallest_snapshot() -> dict:
    """Without its sources, so that mutations hit what is read."""
    G = Generator(2, 1, 2, 4, 1, {"num_layers": 1}, {"channel_base": 4, "channel_max": 1}).eval()
    D = Discriminator(1, 4, 1, channel_base=4, channel_max=1).eval()
    parts = {"training_set_kwargs": DATASET, "G": G, "D": D, "G_ema": copy.deepcopy(G), "extra": OrderedDict(a=1)}
    return {key: Described(part) if isinstance(part, torch.nn.Module) else part for key, part in parts.items()}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_fuzzed_snapshots(protocol):
    data = pickle.dumps(smallest_snapshot(), protocol)
    num = num_rounds(60)
    assert fuzz(lambda data: load_networks(io.BytesIO(data)), [data], num, seed=protocol) > num / 10


def test_trusted_files_execute_their_source(tmp_path):
    canary = tmp_path / "canary"
    snapshot = tiny_snapshot.snapshot()
    source = (REPOSITORY / "training/networks.py").read_text() + f"\nopen({str(canary)!r}, 'w').close()\n"
    data = pickle.dumps({**described(snapshot, source), "augment_pipe": snapshot["augment_pipe"]})
    loads(data)
    assert not canary.exists()
    loaded = loads(data, trusted=True)
    assert canary.exists()
    assert type(loaded["G"]) is not Generator
    assert torch.equal(images(loaded["G"]), images(snapshot["G"]))


@pytest.mark.parametrize("trusted", [False, True])
def test_force_fp16_rebuilds_the_networks(trusted):
    snapshot = tiny_snapshot.snapshot()
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


@pytest.mark.parametrize("trusted", [False, True])
def test_force_fp16_takes_positional_settings(trusted):
    G = Generator(8, 3, 8, 16, 3, {"num_layers": 2}, SMALL).eval()
    D = Discriminator(3, 16, 3, "resnet", 64, 8, 0, None).eval()
    data = pickle.dumps({"G": G, "D": D, "G_ema": G})
    loaded = loads(data, force_fp16=True, trusted=trusted)
    assert [loaded["G_ema"].synthesis.b8.use_fp16, loaded["D"].b16.use_fp16] == [True, True]
    assert torch.equal(images(loaded["G"]), images(G))
    assert torch.equal(logits(loaded["D"]), logits(D))


def test_force_fp16_of_other_classes_is_one_line():
    parts = {key: torch.nn.Linear(1, 1) for key in ("G", "D", "G_ema")}
    with pytest.raises(UserError, match=r"G cannot be rebuilt for half precision: .*init_args"):
        loads(pickle.dumps(parts), force_fp16=True, trusted=True)
