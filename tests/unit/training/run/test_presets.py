from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from training.run.presets import PRESETS, Preset, auto_preset

SG2: dict[str, Any] = {"kimg": 25000, "ramp": None, "map_depth": 8}
PUBLISHED: dict[str, dict[str, Any]] = {
    "stylegan2": SG2 | {"ref_gpus": 8, "batch": 32, "mbstd": 4, "fmaps": 1, "lr": 0.002, "gamma": 10, "ema_kimg": 10},
    "paper256": SG2 | {"ref_gpus": 8, "batch": 64, "mbstd": 8, "fmaps": 0.5, "lr": 0.0025, "gamma": 1, "ema_kimg": 20},
    "paper512": SG2 | {"ref_gpus": 8, "batch": 64, "mbstd": 8, "fmaps": 1, "lr": 0.0025, "gamma": 0.5, "ema_kimg": 20},
    "paper1024": SG2 | {"ref_gpus": 8, "batch": 32, "mbstd": 4, "fmaps": 1, "lr": 0.002, "gamma": 2, "ema_kimg": 10},
    "cifar": {"ref_gpus": 2, "kimg": 100000, "batch": 64, "mbstd": 32, "fmaps": 1, "lr": 0.0025, "gamma": 0.01}
    | {"ema_kimg": 500, "ramp": 0.05, "map_depth": 2, "pl_weight": 0, "style_mixing_prob": 0, "d_architecture": "orig"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name: str) -> None:
    stylegan2 = {
        "max_batch_gpu": None,
        "z_dim": 512,
        "pl_weight": 2,
        "style_mixing_prob": 0.9,
        "d_architecture": "resnet",
        "w_dim": None,
        "cmax": 512,
        "noise": True,
    }
    assert dataclasses.asdict(PRESETS[name]) == stylegan2 | PUBLISHED[name]


@pytest.mark.parametrize(
    ("resolution", "num_gpus", "expected"),
    [
        (32, 1, {"batch": 32, "mbstd": 4, "fmaps": 0.5, "lr": 0.0025, "gamma": 0.0064, "ema_kimg": 10}),
        (256, 1, {"batch": 16, "mbstd": 4, "fmaps": 0.5, "lr": 0.0025, "gamma": 0.8192, "ema_kimg": 5}),
        (256, 8, {"batch": 64, "mbstd": 4, "fmaps": 0.5, "lr": 0.0025, "gamma": 0.2048, "ema_kimg": 20}),
        (512, 2, {"batch": 16, "mbstd": 4, "fmaps": 1, "lr": 0.0025, "gamma": 3.2768, "ema_kimg": 5}),
        (1024, 1, {"batch": 4, "mbstd": 4, "fmaps": 1, "lr": 0.002, "gamma": 52.4288, "ema_kimg": 1.25}),
        (1024, 100, {"batch": 100, "mbstd": 1, "fmaps": 1, "lr": 0.002, "gamma": 2.097152, "ema_kimg": 31.25}),
    ],
)
def test_auto(resolution: int, num_gpus: int, expected: dict[str, float]) -> None:
    preset = auto_preset(resolution, num_gpus)
    assert {name: getattr(preset, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    assert (preset.ref_gpus, preset.kimg, preset.ramp, preset.map_depth) == (num_gpus, 25000, 0.05, 2)
    assert auto_preset(resolution, num_gpus) == preset


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["cifar"].batch = 1
    with pytest.raises(TypeError):
        Preset(8, 32)  # type: ignore[misc]
