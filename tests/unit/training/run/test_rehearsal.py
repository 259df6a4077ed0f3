"""What the rehearsal counts, compared with closed forms and with the same phases on real tensors."""

import pytest
import torch

from dnnlib.object_names import construct_class_by_name
from training.run import rehearsal
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.registry import augmentations, configurations, extensions
from training.run.rehearsal import rehearse
from training.run.settings import TrainingSettings

DATASET = DatasetInfo("cats", 32, 500, has_labels=False)


def settings(**flags):
    values = {"cbase": 256, "cmax": 16, "map_depth": 1, "batch": 8, "batch_gpu": 4, **flags}
    return TrainingSettings(**resolve(Flags(data="", **values), DATASET))


def test_watch_counts_what_is_alive():
    with torch.device("meta"), rehearsal._Watch() as watch:
        a = torch.empty(1000)
        b = a + a  # 8000 bytes alive
        del a
        c = b.view(10, 100)  # no memory of its own
        del b
        d = c * 2  # 8000 bytes again
        del c, d
        e = torch.empty(500)
    assert (watch.peak_bytes, watch._live_bytes) == (8000, 2000)
    del e


def test_watch_counts_operations():
    with torch.device("meta"), rehearsal._Watch() as watch:
        _ = torch.empty(3, 4) @ torch.empty(4, 5)
    assert watch.flops == 2 * 3 * 4 * 5


@pytest.mark.slow
@pytest.mark.parametrize("cfg", ["stylegan2", "msconD"])
def test_the_peak_is_that_of_real_tensors(cfg, monkeypatch):
    """But for temporaries in other layouts; and filters are convolutions on a CPU, elsewhere kernels of our own."""
    expected = rehearse(settings(cfg=cfg, aug="noaug"), DATASET, on_cpu=True)
    monkeypatch.setattr(rehearsal, "META", torch.device("cpu"))
    monkeypatch.setattr(rehearsal, "read_as_ones", lambda *args: None)
    real = rehearse(settings(cfg=cfg, aug="noaug"), DATASET, on_cpu=True)
    assert expected.pass_bytes == pytest.approx(real.pass_bytes, rel=0.15)
    assert expected.flops == pytest.approx(real.flops, rel=0.15)
    same = ("weight_bytes", "optimizer_bytes", "gradient_bytes")
    assert [getattr(expected, name) for name in same] == [getattr(real, name) for name in same]


def test_weights_and_moments():
    kwargs = {"c_dim": 0, "img_resolution": 32, "img_channels": 3}
    values = settings()
    sizes = {}
    for name in ("G", "D"):
        network = construct_class_by_name(**getattr(values, f"{name}_kwargs"), **kwargs)
        sizes[name] = sum(each.nbytes for each in network.parameters())
    found = rehearse(values, DATASET, on_cpu=True)
    assert found.optimizer_bytes == 2 * sum(sizes.values())
    assert found.gradient_bytes == max(sizes.values())
    assert found.weight_bytes == pytest.approx(2 * sizes["G"] + sizes["D"], rel=0.1)  # and some buffers


@pytest.mark.slow
def test_half_the_images_take_half_the_activations_and_as_many_operations():
    whole, halves = (rehearse(settings(batch_gpu=num), DATASET, on_cpu=True) for num in (8, 4))
    of_images = [each.pass_bytes - each.gradient_bytes for each in (whole, halves)]
    assert of_images[0] == pytest.approx(2 * of_images[1], rel=0.25)
    assert whole.flops == pytest.approx(halves.flops, rel=0.1)


@pytest.mark.parametrize(
    ("flag", "name"), [*(("cfg", each) for each in configurations()), *(("aug", each) for each in augmentations())]
)
def test_every_method_can_be_rehearsed(flag, name):
    """Called by `training.run.memory`, an error would only leave the memory unknown."""
    assert rehearse(settings(**{flag: name}), DATASET, on_cpu=True).pass_bytes > 0


SWITCHED_ON = {"lecam": 0.3, "apa": True, "loss": "relativistic", "san": True}
"""Values of the settings that switch extensions on."""


@pytest.mark.parametrize("name", extensions())
def test_extensions_take_part(name):
    alone = rehearse(settings(cfg="stylegan2", aug="noaug"), DATASET, on_cpu=True)
    extension = {name: SWITCHED_ON[name]}
    extended = rehearse(settings(cfg="stylegan2", aug="noaug", settings=extension), DATASET, on_cpu=True)
    assert extended.flops >= alone.flops
    assert extended.weight_bytes == alone.weight_bytes


def test_half_precision_is_for_gpus():
    many = settings(batch=16, batch_gpu=16, aug="noaug")  # so that the maps of the networks take most
    gpu, cpu = (rehearse(many, DATASET, on_cpu=on_cpu) for on_cpu in (False, True))
    assert gpu.pass_bytes < 0.75 * cpu.pass_bytes


def test_random_numbers_stay_as_they_are():
    state = torch.get_rng_state()
    rehearse(settings(aug="ada"), DATASET, on_cpu=True)
    assert torch.equal(torch.get_rng_state(), state)
