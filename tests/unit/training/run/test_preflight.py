import re

import psutil
import pytest

from dnnlib.errors import UserError
from dnnlib.object_names import construct_class_by_name
from tests import tiny_snapshot
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.preflight import check_networks, try_transfer
from training.run.settings import TrainingSettings


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


def test_settings_that_contradict_each_other_are_found():
    dataset = DatasetInfo("cats", 32, 500, has_labels=False)
    kwargs = resolve(Flags(data="", cfg="msconD", settings={"adv_weights": [1, 2]}), dataset)
    with pytest.raises(ValueError, match="need 3 weights"):
        check_networks(TrainingSettings(**kwargs), dataset)


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
