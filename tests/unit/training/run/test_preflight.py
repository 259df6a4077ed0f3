import collections
import re

import psutil
import pytest
import torch

from dnnlib.util import UserError, construct_class_by_name
from tests import tiny_snapshot
from torch_utils.main_memory import main_memory_bytes
from training.run import preflight
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.preflight import check_networks, describe_run, try_transfer
from training.run.settings import TrainingSettings

Usage = collections.namedtuple("Usage", "total used free")


def described(tmp_path, resolution=64, device="cpu", **flags):
    dataset = DatasetInfo("cats", resolution, 500, has_labels=False)
    kwargs = resolve(Flags(data="cats.zip", **flags), dataset)
    return describe_run(TrainingSettings(**kwargs), dataset, tmp_path, torch.device(device))


def number_before(unit, text):
    return float(re.search(rf"about ([\d.]+) GiB {unit}", text)[1])


@pytest.mark.parametrize("cfg", ["auto", "stylegan2", "cifar", "msconD"])
def test_parameters_are_counted_without_making_them(cfg):
    dataset = DatasetInfo("cats", 32, 500, has_labels=False)
    kwargs = resolve(Flags(data="", cfg=cfg, cbase=1024), dataset)
    counted = check_networks(TrainingSettings(**kwargs), dataset)
    sizes = {"c_dim": 0, "img_resolution": 32, "img_channels": 3}
    networks = [construct_class_by_name(**kwargs[name], **sizes) for name in ("G_kwargs", "D_kwargs")]
    assert counted == tuple(sum(each.numel() for each in network.parameters()) for network in networks)


def test_large_networks_take_no_memory():
    """Parameters of the configuration for 1024 px: 30 M each, which would be 240 MB."""
    dataset = DatasetInfo("faces", 1024, 500, has_labels=False)
    kwargs = resolve(Flags(data="", cfg="stylegan2"), dataset)
    before = psutil.Process().memory_info().rss
    assert check_networks(TrainingSettings(**kwargs), dataset) == (30_370_060, 29_012_513)
    assert psutil.Process().memory_info().rss - before < 100e6


def test_generators_stay_where_they_are(tmp_path):
    state = torch.get_rng_state()
    described(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_settings_that_contradict_each_other_are_found():
    dataset = DatasetInfo("cats", 32, 500, has_labels=False)
    kwargs = resolve(Flags(data="", cfg="msconD", settings={"adv_weights": [1, 2]}), dataset)
    with pytest.raises(ValueError, match="need 3 weights"):
        check_networks(TrainingSettings(**kwargs), dataset)


def test_memory_is_that_of_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 24 << 30))
    assert "per process (the GPU has 24.0 GiB; --batch-gpu up to " in described(tmp_path, device="cuda")


def test_what_is_said(tmp_path):
    text = described(tmp_path, batch=32, batch_gpu=8, gpus=2)
    assert "Images:     500 of 64 px, no labels" in text
    assert "Batch:      32 images, 2 process(es), 8 per pass" in text
    assert re.search(r"Networks:   G \d+\.\d M parameters, D \d+\.\d M \(Discriminator\)", text)
    assert f"{main_memory_bytes() / 2**30:.1f} GiB of main memory" in text


@pytest.mark.slow
def test_memory_grows_with_what_is_kept(tmp_path):
    memory = [
        number_before("per process", described(tmp_path, **flags))
        for flags in ({"batch": 8}, {"batch": 64}, {"batch": 64, "cbase": 65536, "cmax": 1024})
    ]
    assert memory == sorted(memory)
    assert memory[2] > 1.5 * memory[1] > 1.5 * memory[0]


@pytest.mark.slow
def test_snapshots_and_states_are_counted(tmp_path):
    rare, often = (described(tmp_path, kimg=400, snap=snap) for snap in (50, 5))
    assert "for 3 snapshots" in rare
    assert "for 21 snapshots" in often
    per_snapshot = (number_before("for", often) - number_before("for", rare)) / 18
    num_G, num_D = (float(value) * 1e6 for value in re.search(r"G ([\d.]+) M parameters, D ([\d.]+) M", rare).groups())
    assert per_snapshot == pytest.approx((2 * num_G + num_D) * 4 / 2**30, rel=0.1)


@pytest.mark.parametrize(("free", "warns"), [(0, True), (1 << 50, False)])
def test_a_disk_that_may_run_full(tmp_path, monkeypatch, free, warns):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(1 << 50, 0, free))
    assert ("Warning: the disk may run full" in described(tmp_path)) == warns


def test_labels_are_counted():
    dataset = DatasetInfo("cats", 32, 500, has_labels=True, label_dim=7)
    kwargs = resolve(Flags(data="", cbase=256, cond=True), dataset)
    with_labels = check_networks(TrainingSettings(**kwargs), dataset)
    kwargs["training_set_kwargs"]["use_labels"] = False
    without = check_networks(TrainingSettings(**kwargs), dataset)
    assert with_labels[0] - without[0] == (7 + 1 + 512) * 512  # the embedding, and a wider first layer


@pytest.mark.parametrize(
    ("resolution", "flags", "words"),
    [(4, {}, "images of 4 px are too small: training needs 8 or more"), (16, {"augpipe": "bgcfnc"}, "imgfilter needs")],
)
def test_images_that_are_too_small(resolution, flags, words):
    dataset = DatasetInfo("icons", resolution, 500, has_labels=False)
    kwargs = resolve(Flags(data="", cbase=256, **flags), dataset)
    with pytest.raises(ValueError, match=words):
        check_networks(TrainingSettings(**kwargs), dataset)


def test_a_snapshot_to_resume_from_is_tried(tmp_path):
    tiny_snapshot.write(tmp_path / "source.pkl")
    dataset = DatasetInfo("icons", tiny_snapshot.RESOLUTION_PX, 500, has_labels=False)
    flags = Flags(data="", cbase=64, cmax=8, map_depth=2, resume=str(tmp_path / "source.pkl"))
    kwargs = resolve(flags, dataset)
    kwargs["G_kwargs"].update(z_dim=8, w_dim=8)
    lines = list(try_transfer(TrainingSettings(**kwargs), dataset, is_trusted=False))
    assert [line.split(":")[1].strip() for line in lines] == ["G", "D", "G_ema"]
    assert all(re.search(r"(\d+) of \1 tensors copied$", line) for line in lines)
    kwargs["G_kwargs"].update(w_dim=16)
    with pytest.raises(UserError, match=r"^--resume=.*source.pkl: G: 'synthesis.b4.conv1.affine.weight' is"):
        list(try_transfer(TrainingSettings(**kwargs), dataset, is_trusted=False))


def test_the_folder_need_not_exist(tmp_path):
    assert "GiB free" in described(tmp_path / "new" / "runs")
