"""Command lines of train.py resolve to the options in tests/golden/options.json, and refusals to its messages.

The golden file was made with the program of commit 3e9d356 (26 November 2026). Where options are meant to change, make
it again and read the difference, line by line::

    python -m tests.unit.training.run.test_options
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import train
from tests.helpers import GOLDEN_DIR
from training.run import launch
from training.run.dataset_info import DatasetInfo
from training.run.description import describe_flags
from training.run.options import AUGPIPES, RESUME_SOURCES, Flags, change_options, resolve

GOLDEN = GOLDEN_DIR / "options.json"
NUM_IMAGES = 1000
Options = dict[str, Any]


def parse(arguments: str) -> Flags:
    """What train.py makes of its flags."""
    with mock.patch.object(launch, "train_run", return_value=True) as train_run:
        train.main.main(["--outdir=runs", "--data=cars.zip", *arguments.split()], standalone_mode=False)
    flags: Flags = train_run.call_args.args[0]
    return flags


def dataset(resolution: int = 256, has_labels: bool = True) -> DatasetInfo:
    return DatasetInfo(name="cars", resolution=resolution, num_images=NUM_IMAGES, has_labels=has_labels)


def options_of(arguments: str, resolution: int = 256) -> Options:
    return resolve(parse(arguments), dataset(resolution))


CFGS = ("auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar", "msconD", "msconD-demo", "multiscale")
METHODS = ("msconD", "msconD-demo")
CHOICES = {
    "snap": ["10"],
    "metrics": ["none", "kid50k_full", "fid50k_full,pr50k3_full"],
    "metrics-ticks": ["5"],
    "seed": ["7"],
    "cond": ["true", "0"],
    "subset": ["100", "1000", "1001"],
    "mirror": ["1", "false"],
    "gamma": ["0", "5.5"],
    "kimg": ["1000"],
    "batch": ["8", "16", "96", "30"],
    "batch-gpu": ["1", "2", "8", "5"],
    "cbase": ["4096"],
    "cmax": ["128"],
    "glr": ["0.001"],
    "dlr": ["0.004"],
    "map-depth": ["5"],
    "mbstd-group": ["2"],
    "tick": ["0.5"],
    "aug": ["noaug", "ada"],
    "target": ["0.7"],
    "augpipe": ["blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"],
    "ada-max-p": ["0.8", "inf"],
    "resume": ["ffhq256", "ffhq512", "ffhq1024", "celebahq256", "lsundog256", "some/where.pkl"],
    "freezed": ["0", "10"],
    "fp32": ["true"],
    "nhwc": ["true"],
    "nobench": ["true"],
    "allow-tf32": ["1"],
    "workers": ["0", "6"],
    "desc": ["mine"],
}
METHOD_CHOICES = {
    "scales": ["1-8"],
    "r1-mode": ["rademacher"],
    "con-temp": ["0.5"],
    "con-crop": ["0.08,1"],
    "con-weight": ["0.5"],
    "proj-dim": ["32"],
}


COMBINATIONS = (
    *("", "--aug=fixed --p=0.25", "--aug=fixed --p=0 --augpipe=geom", "--resume=ffhq256 --freezed=4 --cfg=paper256"),
    *(
        "--p=0.5",
        "--aug=fixed",
        "--aug=noaug --target=0.5",
        "--aug=noaug --augpipe=bgc",
        "--aug=fixed --p=1 --target=1",
    ),
    *("--batch=30 --gpus=4", "--batch=32 --batch-gpu=5", "--batch=6", "--batch=64 --gpus=2 --batch-gpu=3"),
    *("--precision=fp16", "--precision=bf16 --cfg=msconD --desc=mine", "--precision=fp32", "--precision=fp16 --fp32=0"),
    *(
        "--precision=fp32 --fp32=1",
        "--precision=bf16 --fp32=1",
        "--precision=fp32 --fp32=0",
        "--precision=bf16 --nhwc=1",
    ),
)
GRID = ((32, 1), (32, 2), (64, 8), (256, 1), (256, 3), (256, 4), (512, 2), (512, 16), (1024, 1), (1024, 8))


def command_lines() -> list[tuple[int, str]]:
    """Resolutions and flags: every configuration on many sizes, every flag alone, and random sets of flags."""
    lines = [(resolution, f"--cfg={cfg} --gpus={gpus}") for resolution, gpus in GRID for cfg in CFGS]
    for cfg in ("auto", "cifar", "msconD"):
        lines += [(256, f"--cfg={cfg} --{flag}={value}") for flag, values in CHOICES.items() for value in values]
    for cfg in ("auto", "paper256", "multiscale", *METHODS):
        lines += [(256, f"--cfg={cfg} --{flag}={value}") for flag, values in METHOD_CHOICES.items() for value in values]
    lines += [(256, arguments) for arguments in COMBINATIONS]
    random = np.random.RandomState(0)
    for _ in range(150):
        cfg = random.choice(CFGS)
        flags = CHOICES | METHOD_CHOICES if cfg in METHODS else CHOICES
        given = [f"--{flag}={random.choice(values)}" for flag, values in flags.items() if random.rand() < 0.1]
        lines.append((int(random.choice([32, 256, 1024])), " ".join([f"--cfg={cfg}", *given])))
    return lines


def flatten(value: Any, name: str = "") -> Options:
    """Leaves of nested dicts by path; lists and empty dicts are leaves."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {
        path: leaf
        for key, each in value.items()
        for path, leaf in flatten(each, f"{name}.{key}" if name else key).items()
    }


def difference(options: Options, baseline: Options) -> Options:
    """What turns the baseline into the options; both are flat."""
    changed = {path: value for path, value in options.items() if path not in baseline or baseline[path] != value}
    removed = [path for path in baseline if path not in options]
    return {**changed, "removed": removed} if removed else changed


def outcome(resolution: int, arguments: str, baselines: dict[str, Options]) -> list[Any]:
    """Description and options, as a difference from the configuration's baseline; or the message of a refusal."""
    flags = parse(arguments)
    try:
        options = resolve(flags, dataset(resolution))
        description = describe_flags(flags, dataset(resolution))
    except ValueError as error:
        return [str(error)]
    assert json.loads(json.dumps(options)) == options, "they are written as JSON"
    return [description, difference(flatten(options), baselines[flags.cfg])]


def make_golden() -> dict[str, Any]:
    baselines = {cfg: flatten(options_of(f"--cfg={cfg}")) for cfg in CFGS}
    cases = [[*line, *outcome(*line, baselines)] for line in command_lines()]
    return {"baselines": baselines, "cases": cases}


def test_command_lines_resolve_as_before() -> None:
    golden, found = json.loads(GOLDEN.read_text()), make_golden()
    assert found["baselines"] == golden["baselines"]
    assert [case[:2] for case in found["cases"]] == [case[:2] for case in golden["cases"]], "other command lines"
    different = [pair for pair in zip(found["cases"], golden["cases"], strict=True) if pair[0] != pair[1]]
    lines = [f"now:    {now}\nbefore: {before}" for now, before in different]
    assert not lines, f"{len(lines)} cases, among them\n" + "\n".join(lines[:10])


def test_golden_cases_are_many_and_of_both_kinds() -> None:
    lengths = [len(case) for case in json.loads(GOLDEN.read_text())["cases"]]
    assert lengths.count(4) >= 300
    assert lengths.count(3) >= 40


BLIT, GEOM = ["xflip", "rotate90", "xint"], ["scale", "rotate", "aniso", "xfrac"]
COLOR = ["brightness", "contrast", "lumaflip", "hue", "saturation"]
PIPES = {
    "blit": BLIT,
    "geom": GEOM,
    "color": COLOR,
    "filter": ["imgfilter"],
    "noise": ["noise"],
    "cutout": ["cutout"],
    "bg": BLIT + GEOM,
    "bgc": BLIT + GEOM + COLOR,
    "bgcf": [*BLIT, *GEOM, *COLOR, "imgfilter"],
    "bgcfn": [*BLIT, *GEOM, *COLOR, "imgfilter", "noise"],
    "bgcfnc": [*BLIT, *GEOM, *COLOR, "imgfilter", "noise", "cutout"],
}


def test_every_augpipe() -> None:
    assert {name: list(transforms) for name, transforms in AUGPIPES.items()} == PIPES


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {"augment_kwargs.class_name": "training.augment.AugmentPipe", "ada_target": 0.6, "ada_max_p": 1}),
        ("--cfg=stylegan2", {"batch_size": 32, "batch_gpu": 4, "G_kwargs.synthesis_kwargs.channel_base": 32768}),
        ("--cfg=paper256", {"batch_size": 64, "batch_gpu": 8, "G_kwargs.synthesis_kwargs.channel_base": 16384}),
        ("--cfg=cifar", {"loss_kwargs.pl_weight": 0, "loss_kwargs.style_mixing_prob": 0}),
        ("--cfg=cifar", {"D_kwargs.architecture": "orig", "G_kwargs.mapping_kwargs.num_layers": 2}),
        ("--cfg=msconD", {"D_kwargs.class_name": "msconD.discriminator.MsConDDiscriminator", "batch_gpu": 16}),
        ("--cfg=paper256 --batch=32", {"batch_size": 32, "batch_gpu": 32}),
        ("--gpus=2", {"num_gpus": 2, "batch_size": 32, "batch_gpu": 16}),
        ("--fp32=1", {"D_kwargs.num_fp16_res": 0, "D_kwargs.conv_clamp": None}),
        ("", {"D_kwargs.num_fp16_res": 4, "D_kwargs.conv_clamp": 256, "D_kwargs.channel_max": 512}),
        ("--precision=fp32", {"D_kwargs.num_fp16_res": 0, "D_kwargs.conv_clamp": None}),
        ("--precision=bf16", {"D_kwargs.num_fp16_res": 0, "D_kwargs.conv_clamp": None, "num_bf16_res": 4}),
        ("", {"G_kwargs.z_dim": 512, "G_kwargs.w_dim": 512, "D_opt_kwargs.betas": [0, 0.99], "D_opt_kwargs.eps": 1e-8}),
        ("--resume=ffhq256", {"resume_pkl": RESUME_SOURCES["ffhq256"], "ada_kimg": 100, "ema_rampup": None}),
        ("--aug=fixed --p=0.25", {"augment_p": 0.25}),
        ("--subset=100 --seed=3", {"training_set_kwargs.max_size": 100, "training_set_kwargs.random_seed": 3}),
    ],
)
def test_documented_options(arguments: str, expected: Options) -> None:
    options = flatten(options_of(arguments))
    assert {path: options[path] for path in expected} == expected


def test_noaug_has_no_augmentation() -> None:
    assert not [path for path in flatten(options_of("--aug=noaug")) if path.startswith(("augment", "ada"))]


@pytest.mark.parametrize(("one", "other"), [("", "--precision=fp16"), ("--fp32=1", "--precision=fp32")])
def test_precision_says_the_same_as_the_older_flag(one: str, other: str) -> None:
    assert options_of(one) == options_of(other) == options_of(f"{one} {other}")
    assert "num_bf16_res" not in options_of(one)


def test_networks_of_bf16_are_those_of_fp32() -> None:
    """Their snapshots must open in the official code, which knows no bfloat16."""
    options = options_of("--precision=bf16")
    assert options.pop("num_bf16_res") == 4
    assert options == options_of("--precision=fp32")


def test_an_unknown_precision_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^--precision must be one of fp16, bf16, fp32, got 'int8'$"):
        resolve(Flags(data="cars.zip", precision="int8"), dataset())


def test_noresume_is_no_resume() -> None:
    assert options_of("--resume=noresume") == options_of("")


def test_a_snapshot_in_the_current_folder_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.pkl").touch()
    assert options_of("--resume=old.pkl")["resume_pkl"] == str(tmp_path / "old.pkl")
    assert options_of("--resume=https://host/old.pkl")["resume_pkl"] == "https://host/old.pkl"


@pytest.mark.parametrize(
    ("arguments", "given", "ticks"),
    [
        ("", {"time": 28800.0}, 5),
        ("--time=30d", {"time": 28800.0}, 5),
        ("--time=30d --snap=3", {"time": 28800.0}, 3),
        ("", {"time": 28800.0, "snap": 7}, 7),
        ("", {"kimg": 7}, 50),
    ],
)
def test_snapshots_of_a_run_that_is_continued(arguments: str, given: dict[str, Any], ticks: int) -> None:
    """A new time plans them anew, as it does for a new run; a ``--snap`` stays."""
    options, _ignored = change_options(options_of(arguments), given)
    assert [options[f"{what}_snapshot_ticks"] for what in ("image", "network")] == [ticks, ticks]


@pytest.mark.parametrize("cfg", CFGS)
def test_results_share_nothing(cfg: str) -> None:
    """Whoever changes what they got does not change what the next one gets."""
    options = options_of(f"--cfg={cfg}")
    before = copy.deepcopy(options)
    for each in options.values():
        if isinstance(each, dict):
            each["extra"] = 1
    assert options_of(f"--cfg={cfg}") == before


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ("--batch=30 --gpus=4", ("--batch=30", "--gpus=4")),
        ("--batch=32 --batch-gpu=5", ("--batch-gpu=5", "--batch=32")),
        ("--batch=6", ("--batch", "--batch-gpu", "--mbstd-group")),
        ("--cond=1", ("--cond=1", "dataset.json", "--cond=0")),
        ("--subset=1001", ("--subset", "1000", "1001")),
        ("--p=0.5", ("--p", "--aug=fixed", "--aug=ada")),
        ("--aug=fixed", ("--aug=fixed", "--p")),
        ("--aug=noaug --target=0.5", ("--target", "--aug=ada", "--aug=noaug")),
        ("--aug=noaug --augpipe=bgc", ("--augpipe", "--aug=noaug")),
        ("--metrics=none --metrics-ticks=3", ("--metrics-ticks", "--metrics=none")),
        ("--metrics=none --metricdata=x", ("--metricdata", "--metrics=none")),
        ("--metrics=none --object-detector=nanodet", ("--object-detector", "--metrics=none")),
        ("--fp32=1 --precision=bf16", ("--fp32=1", "--precision=bf16")),
        ("--fp32=1 --precision=fp16", ("--fp32=1", "--precision=fp16")),
        ("--fp32=0 --precision=fp32", ("--fp32=0", "--precision=fp32")),
        ("--con-temp=0.5", ("--con-temp", "--cfg=auto", "msconD")),
        ("--cfg=multiscale --con-temp=0.5", ("--con-temp", "--cfg=multiscale", "msconD")),
        ("--cfg=paper256 --scales=1,8", ("--scales", "--cfg=paper256", "msconD", "multiscale")),
    ],
)
def test_contradictions_are_one_line_that_names_the_flags(arguments: str, flags: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        resolve(parse(arguments), dataset(has_labels=False))
    assert not [flag for flag in flags if flag not in str(caught.value)], caught.value


def test_an_unknown_cfg_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^--cfg must be one of auto, stylegan2, .*msconD.*, got 'stylegan9'$"):
        resolve(Flags(data="cars.zip", cfg="stylegan9"), dataset())


def write_golden() -> None:
    golden = make_golden()
    parts = [
        '{"baselines": {',
        ",\n".join(f"{json.dumps(cfg)}: {json.dumps(options)}" for cfg, options in golden["baselines"].items()),
        '}, "cases": [',
        ",\n".join(json.dumps(case) for case in golden["cases"]),
        "]}",
    ]
    GOLDEN.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    write_golden()
