"""Registration: three configurations whose flags say what their classes take."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from typing import Any

import click
import pytest

import train
from msconD.config import CONFIGURATIONS
from msconD.discriminator import EPILOGUES, SHARED_BLOCKS, MsConDDiscriminator
from msconD.settings import AREA, DiscriminatorSettings, Heights, LossSettings, check_images_per_pass
from tests.helpers import REPOSITORY
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve

DATASET = DatasetInfo("photos", resolution=256, num_images=100, has_labels=False)
SETTINGS = CONFIGURATIONS[0].settings
DEFAULTS = dataclasses.asdict(DiscriminatorSettings()) | dataclasses.asdict(LossSettings())


def options(**flags: Any) -> dict[str, Any]:
    return resolve(Flags(data="photos.zip", **flags), DATASET)


def parse(name: str, text: str) -> Any:
    """What train.py makes of a flag."""
    with train.main.make_context("train.py", [f"--{name.replace('_', '-')}={text}"]) as context:
        return context.params[name]


def test_defaults_of_the_discriminator_are_those_of_its_constructor() -> None:
    taken = inspect.signature(MsConDDiscriminator.__init__).parameters
    for name, default in dataclasses.asdict(DiscriminatorSettings()).items():
        expected = taken[name].default
        assert default == (list(expected) if isinstance(expected, tuple) else expected), name


def test_every_argument_of_the_discriminator_is_a_setting() -> None:
    own = set(inspect.signature(MsConDDiscriminator.__init__).parameters)
    settings = {setting.name for setting in dataclasses.fields(DiscriminatorSettings)}
    assert own - settings == {"self", "c_dim", "img_resolution", "img_channels", "backbone_kwargs"}


def test_defaults_are_json() -> None:
    assert json.loads(json.dumps(DEFAULTS)) == DEFAULTS


def test_defaults_are_not_shared() -> None:
    assert DiscriminatorSettings().scales is not DiscriminatorSettings().scales


def test_readme_lists_every_flag_with_its_default() -> None:
    rows = re.findall(r"^\| `--([\w-]+)` \| (.*?) \|", (REPOSITORY / "msconD/README.md").read_text(), re.MULTILINE)
    shown = {flag.replace("-", "_"): text for flag, text in rows}
    assert len(SETTINGS) == 27
    for name in SETTINGS:
        if DEFAULTS[name] is None:
            assert shown[name] in ("equal", "input width"), name
        else:
            assert parse(name, shown[name]) == DEFAULTS[name], name


def test_choices_are_those_of_the_discriminator() -> None:
    assert SETTINGS["shared"].metadata["type"].choices == SHARED_BLOCKS
    assert SETTINGS["epilogue"].metadata["type"].choices == EPILOGUES


@pytest.mark.parametrize("num_gpus", [1, 2, 4, 8])
def test_passes_are_large(num_gpus: int) -> None:
    assert options(cfg="msconD", gpus=num_gpus)["batch_gpu"] == min(32 // num_gpus, 16)


def test_widths_are_those_of_table_1() -> None:
    assert options(cfg="msconD")["D_kwargs"]["channel_base"] == 32768


def test_the_ablation_has_no_contrastive_part() -> None:
    kwargs = options(cfg="multiscale")
    assert kwargs["D_kwargs"]["proj_dim"] == 0
    assert kwargs["loss_kwargs"]["con_weight"] == 0
    assert not {"proj_hidden", "con_temp"} & {*kwargs["D_kwargs"], *kwargs["loss_kwargs"]}
    with pytest.raises(ValueError, match=r"--con-temp has no effect with --cfg=multiscale; it belongs to --cfg=msconD"):
        options(cfg="multiscale", settings={"con_temp": 0.1})


@pytest.mark.parametrize("cfg", ["msconD", "msconD-demo"])
def test_passes_of_one_image_are_refused(cfg: str) -> None:
    with pytest.raises(ValueError, match="each pass has only 1; raise --batch or --batch-gpu, or use --cfg=multiscale"):
        options(cfg=cfg, batch_gpu=1)
    assert options(cfg="multiscale", batch_gpu=1)["batch_gpu"] == 1
    assert options(cfg=cfg, batch_gpu=1, settings={"con_weight": 0})["batch_gpu"] == 1


@pytest.mark.parametrize(
    ("batch_gpu", "num_gpus", "loss_kwargs", "is_legal"),
    [
        (2, 1, {"con_weight": 1.0, "con_gather": "none"}, True),
        (1, 2, {"con_weight": 1.0, "con_gather": "h1"}, True),
        (1, 2, {"con_weight": 1.0, "con_gather": "none"}, False),
        (1, 1, {"con_weight": 0.0, "con_g_weight": 0.1, "con_gather": "h1"}, False),
        (1, 1, {"con_weight": 0}, True),
    ],
)
def test_global_negatives_may_come_from_other_processes(
    batch_gpu: int, num_gpus: int, loss_kwargs: dict[str, Any], is_legal: bool
) -> None:
    kwargs = {"batch_gpu": batch_gpu, "num_gpus": num_gpus, "loss_kwargs": loss_kwargs}
    if is_legal:
        check_images_per_pass(kwargs)
    else:
        with pytest.raises(ValueError, match="each pass has only 1"):
            check_images_per_pass(kwargs)


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("1", [1]),
        ("1-4", [1, 4]),
        ("1-8", [1, 8]),
        ("1-16", [1, 8, 16]),
        ("1-32", [1, 8, 16, 32]),
        ("16,1,4", [1, 4, 16]),
    ],
)
def test_scales(text: str, scales: list[int]) -> None:
    assert parse("scales", text) == scales


@pytest.mark.parametrize("text", ["", "1-3", "1-12", "2-8", "8-16", "1-", "-8", "a", "1-8-16", "1;8"])
def test_scales_that_make_no_sense(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a list of heights like 1,8,16, or 1-16 for the same"):
        Heights().convert(text, None, None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("con_crop", "0.08,1", [0.08, 1.0]),
        ("con_max_anchors", "512", 512),
        ("adv_weights", "2,1,1", [2, 1, 1]),
        ("cond_local", "False", False),
        ("r1_mode", "rademacher", "rademacher"),
        ("con_temp", "0.07", 0.07),
    ],
)
def test_values(name: str, text: str, value: Any) -> None:
    assert parse(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("con_crop", "0.5", "'0.5' is not two fractions of the image area with 0 < low <= high <= 1"),
        ("con_crop", "0.5,0.2", "is not two fractions of the image area"),
        ("con_max_anchors", "1.5", "'1.5': give a whole number from 1"),
        ("con_max_anchors", "0", "0 is not in the range x>=1"),
        ("proj1_layers", "3", "3 is not in the range 1<=x<=2"),
        ("adv_weights", "1,-1", "is not a list of numbers of at least 0, one per scale, not all 0"),
        ("adv_weights", "0,0,0", "not all 0"),
        ("adv_weights", "1,nan", "numbers of at least 0"),
        ("con_scale_weights", "1,inf", "numbers of at least 0"),
        ("cond_local", "maybe", "'maybe': give 1 or 0, such as --cond-local=1"),
        ("r1_mode", "sum", "'sum' is not one of 'mean', 'rademacher', 'global'"),
        ("con_temp", "0.01", "0.01 is not in the range x>=0.02"),
    ],
)
def test_values_that_make_no_sense(name: str, text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        parse(name, text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match=r"con_weight: (nan|inf) is not a finite number"):
        options(cfg="msconD", settings={"con_weight": value})


def test_sequences_are_lists_of_numbers() -> None:
    assert AREA.convert((0.2, 1), None, None) == [0.2, 1.0]
    assert Heights().convert((8, 1), None, None) == [8, 1]
    with pytest.raises(click.BadParameter):
        AREA.convert(0.2, None, None)


def test_help_needs_no_torch() -> None:
    code = "import sys, msconD.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
