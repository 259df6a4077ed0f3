"""Command lines of ``python -m msconD.attach`` and what becomes of the training loop's arguments.

tests/integration/test_attach.py runs it.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import training.training_loop
from msconD.attach import main, method_changes, read_arguments, wrap_training_loop
from msconD.flags import BASE_CFG, VARIANTS
from tests.api.test_persistent_imports import faults
from tests.helpers import REPOSITORY
from training.run.options import DatasetInfo, Flags, resolve

DATASET = DatasetInfo("photos", resolution=64, num_images=100, has_labels=False)
MODULES = [path for path in (REPOSITORY / "msconD").glob("*.py") if path.name not in ("config.py", "plots.py")]
"""What runs inside other checkouts."""


def options(**flags: Any) -> dict[str, Any]:
    return copy.deepcopy(resolve(Flags(data="photos.zip", **flags), DATASET)[1])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_need_nothing_that_the_official_code_lacks(path: Path) -> None:
    assert not [name for name in faults(path.read_text()) if not name.startswith(("msconD", "import click"))]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in ("dnnlib", "torch_utils", "training"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for script in ("train.py", "generate.py"):
        (tmp_path / script).touch()
    return tmp_path


def test_the_flags_of_the_method_are_taken_out(checkout: Path) -> None:
    arguments = ["--outdir", "runs", "--scales", "1-8", "-n", "--cfg=msconD", "--con-temp=0.1", "--resume", "noresume"]
    orders, others = read_arguments(checkout, "train.py", arguments)
    assert others == ["--outdir", "runs", "-n", "--resume", "noresume", "--cfg=stylegan2"]
    assert orders.changes == method_changes("msconD", {"--scales": "1,8", "--con-temp": "0.1"})
    assert orders.changes["D_kwargs"]["scales"] == [1, 8]
    assert orders.changes["loss_kwargs"]["con_temp"] == 0.1


@pytest.mark.parametrize("text", ["--cfg=auto --seed 1 --help", "--seeds 0-3 --trunc=0.5", "--cfg=unheard-of", ""])
def test_other_command_lines_stay_as_they_are(checkout: Path, text: str) -> None:
    orders, others = read_arguments(checkout, "train.py", text.split())
    assert sorted(others) == sorted(text.split())
    assert orders.changes == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("train.py --con-weight=2", "--con-weight has no effect without --cfg=msconD or --cfg=multiscale"),
        ("train.py --cfg=auto --scales=1", "--scales has no effect without --cfg=msconD or --cfg=multiscale"),
        ("train.py --cfg=multiscale --con-weight=2", "--con-weight has no effect with --cfg=multiscale"),
        ("train.py --cfg=msconD --con-temp=cold", "--con-temp=cold: must be a number of at least 0.02, got 'cold'"),
        ("train.py --cfg=msconD --con-temp", "Option '--con-temp' requires an argument."),
        ("trian.py --cfg=msconD", "no script trian.py in {}; there are generate.py, train.py"),
    ],
)
def test_mistakes_are_one_line(checkout: Path, arguments: str, complaint: str) -> None:
    result = CliRunner().invoke(main, [str(checkout), *arguments.split()])
    assert (result.exit_code, result.output) == (1, f"Error: {complaint.format(checkout)}\n")


@pytest.mark.parametrize("missing", ["training", "dnnlib"])
def test_a_folder_that_is_no_checkout(checkout: Path, missing: str) -> None:
    (checkout / missing / "__init__.py").unlink()
    with pytest.raises(click.ClickException, match=rf"is no StyleGAN2-ADA checkout: it has no {missing}/__init__.py"):
        read_arguments(checkout, "train.py", [])


@pytest.mark.parametrize("cfg", VARIANTS)
@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.parametrize("batch", [None, 8, 64])
def test_training_is_that_of_this_repository(
    cfg: str, gpus: int, batch: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(training.training_loop, "training_loop", lambda **kwargs: calls.append(kwargs))
    wrap_training_loop(method_changes(cfg, {}))
    theirs = options(cfg=BASE_CFG, gpus=gpus, batch=batch)
    (tmp_path / "training_options.json").write_text(json.dumps(theirs))
    training.training_loop.training_loop(rank=0, run_dir=str(tmp_path), **theirs)
    expected = options(cfg=cfg, gpus=gpus, batch=batch)
    assert calls == [{"rank": 0, "run_dir": str(tmp_path), **expected}]
    assert json.loads((tmp_path / "training_options.json").read_text()) == expected


def test_other_ranks_leave_the_run_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.training_loop, "training_loop", lambda **kwargs: None)
    wrap_training_loop(method_changes("msconD", {}))
    (tmp_path / "training_options.json").touch()
    training.training_loop.training_loop(rank=1, run_dir=str(tmp_path), **options(cfg=BASE_CFG, gpus=2))
    assert (tmp_path / "training_options.json").read_text() == ""
