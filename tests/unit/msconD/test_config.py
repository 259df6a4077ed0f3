"""Registration: two configurations whose flags say what their classes take."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from msconD.config import CONFIGURATIONS
from msconD.discriminator import EPILOGUES, SHARED_BLOCKS, MsConDDiscriminator
from msconD.flags import SCALES
from msconD.settings import LossSettings
from tests.helpers import REPOSITORY
from training.run.options import DatasetInfo, Flags, resolve
from training.run.registry import Setting

DATASET = DatasetInfo("photos", resolution=256, num_images=100, has_labels=False)
FLAGS: dict[str, Setting] = {setting.flag: setting for setting in CONFIGURATIONS[0].settings}


def options(**flags: Any) -> dict[str, Any]:
    return resolve(Flags(data="photos.zip", **flags), DATASET)[1]


def test_defaults_are_those_of_the_classes() -> None:
    taken = inspect.signature(MsConDDiscriminator.__init__).parameters
    for setting in FLAGS.values():
        default = setting.default
        if setting.target == "D_kwargs":
            expected = taken[setting.key].default
        else:
            expected = getattr(LossSettings(), setting.key)
        assert default == (list(expected) if isinstance(expected, tuple) else expected), setting.flag
        json.dumps(default)


def test_every_setting_has_a_flag() -> None:
    keys = {setting.key for setting in FLAGS.values()}
    assert {field.name for field in dataclasses.fields(LossSettings)} <= keys
    own = set(inspect.signature(MsConDDiscriminator.__init__).parameters)
    assert own - keys == {"self", "c_dim", "img_resolution", "img_channels", "backbone_kwargs"}


def test_readme_lists_every_flag_with_its_default() -> None:
    rows = re.findall(r"^\| `(--[\w-]+)` \| (.*?) \|", (REPOSITORY / "msconD/README.md").read_text(), re.MULTILINE)
    shown = dict(rows)
    for flag, setting in FLAGS.items():
        if setting.default is None:
            assert shown[flag] in ("equal", "input width"), flag
        else:
            assert setting.parse(shown[flag]) == setting.default, flag


def test_choices_are_those_of_the_discriminator() -> None:
    assert FLAGS["--shared"].metavar == "|".join(SHARED_BLOCKS)
    assert FLAGS["--epilogue"].metavar == "|".join(EPILOGUES)


@pytest.mark.parametrize("num_gpus", [1, 2, 4, 8])
def test_passes_are_large(num_gpus: int) -> None:
    assert options(cfg="msconD", gpus=num_gpus)["batch_gpu"] == min(32 // num_gpus, 16)


def test_widths_are_those_of_table_1() -> None:
    assert options(cfg="msconD")["D_kwargs"]["channel_base"] == 32768


def test_the_ablation_has_no_contrastive_part() -> None:
    kwargs = options(cfg="multiscale")
    assert kwargs["D_kwargs"]["proj_dim"] == 0
    assert kwargs["loss_kwargs"]["con_weight"] == 0
    with pytest.raises(ValueError, match=r"--con-temp has no effect with --cfg=multiscale; it belongs to msconD"):
        options(cfg="multiscale", settings={"con_temp": 0.1})


@pytest.mark.parametrize(
    ("text", "scales"),
    [("1", [1]), ("1-8", [1, 8]), ("1-16", [1, 8, 16]), ("1-32", [1, 8, 16, 32]), ("16,1,4", [1, 4, 16])],
)
def test_scales(text: str, scales: list[int]) -> None:
    assert SCALES.parse(text) == scales


@pytest.mark.parametrize("text", ["", "1-4", "1-12", "2-8", "8-16", "1-", "-8", "a", "1-8-16", "1;8"])
def test_scales_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be heights like 1,8,16, or 1-16 for the same, got"):
        SCALES.parse(text)


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--con-crop", "0.08,1", [0.08, 1.0]),
        ("--con-max-anchors", "512", 512),
        ("--adv-weights", "2,1,1", [2, 1, 1]),
        ("--cond-local", "False", False),
        ("--r1-mode", "rademacher", "rademacher"),
        ("--con-temp", "0.07", 0.07),
    ],
)
def test_values(flag: str, text: str, value: Any) -> None:
    assert FLAGS[flag].parse(text) == value


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("--con-crop", "0.5", "two shares of the image's area"),
        ("--con-crop", "0.5,0.2", "two shares of the image's area"),
        ("--con-max-anchors", "1.5", "an integer of at least 1, got '1.5'"),
        ("--adv-weights", "1,-1", "numbers of at least 0"),
        ("--cond-local", "maybe", "true or false, got 'maybe'"),
        ("--r1-mode", "sum", "one of mean, rademacher, global, got 'sum'"),
        ("--con-temp", "nan", "a number of at least 0.02, got 'nan'"),
    ],
)
def test_values_that_make_no_sense(flag: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"must be {words}"):
        FLAGS[flag].parse(text)


def test_help_needs_no_torch() -> None:
    code = "import sys, msconD.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
