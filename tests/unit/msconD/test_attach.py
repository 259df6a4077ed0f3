"""``python -m msconD.attach``: what is refused, and the arguments that the training loop gets.

tests/integration/test_attach.py runs it.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import training.training_loop
from msconD import attach
from msconD.attach import check_settings, main, wrap_training_loop
from msconD.attach_flags import method_changes, read_arguments
from msconD.checkout import SUPPORTED
from msconD.settings import BASE_CFG, VARIANTS
from tests.api.test_persistent_imports import faults
from tests.helpers import REPOSITORY
from tests.training_runs import write_dataset
from tests.unit.msconD.test_checkout import write_checkout
from training import networks
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve

DATASET = DatasetInfo("photos", resolution=64, num_images=100, has_labels=False)
MODULES = [path for path in (REPOSITORY / "msconD").glob("*.py") if path.name not in ("config.py", "plots.py")]
"""Those that run inside other checkouts."""


def options(**flags: Any) -> dict[str, Any]:
    return copy.deepcopy(resolve(Flags(data="photos.zip", **flags), DATASET))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_need_nothing_that_the_official_code_lacks(path: Path) -> None:
    assert not [name for name in faults(path.read_text()) if not name.startswith(("msconD", "import click"))]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("train.py --con-weight=2", "--con-weight has no effect without --cfg=msconD or --cfg=multiscale"),
        ("train.py --cfg=auto --scales=1", "--scales has no effect without --cfg=msconD or --cfg=multiscale"),
        ("train.py --cfg=multiscale --con-weight=2", "--con-weight has no effect with --cfg=multiscale"),
        (
            "train.py --cfg=msconD --con-temp=cold",
            "Invalid value for '--con-temp': 'cold' is not a valid float range.",
        ),
        (
            "train.py --cfg=msconD --con-temp=0.01",
            "Invalid value for '--con-temp': 0.01 is not in the range x>=0.02.",
        ),
        (
            "train.py --cfg=multiscale --scales=2-8",
            "Invalid value for '--scales': '2-8' is not a list of heights like 1,8,16, or 1-16 for the same.",
        ),
        ("train.py --cfg=msconD --con-temp", "Option '--con-temp' requires an argument."),
        ("trian.py --cfg=msconD", "no script trian.py in {}; there are generate.py, train.py"),
    ],
)
def test_mistakes_are_one_line(checkout: Path, arguments: str, complaint: str) -> None:
    result = CliRunner().invoke(main, [str(checkout), *arguments.split()])
    assert (result.exit_code, result.output) == (1, f"Error: {complaint.format(checkout)}\n")


@pytest.mark.parametrize(("missing", "words"), [("networks.py", "is missing"), ("loss.py", "is missing")])
def test_a_foreign_checkout_gets_no_method_but_runs_without(checkout: Path, missing: str, words: str) -> None:
    (checkout / "training" / missing).unlink()
    result = CliRunner().invoke(main, [str(checkout), "train.py", "--cfg=msconD"])
    expected = f"--cfg=msconD cannot be attached to {checkout}: training/{missing} {words}; {SUPPORTED}"
    assert (result.exit_code, result.output) == (1, f"Error: {expected}\n")
    assert read_arguments(checkout, "train.py", ["--cfg=auto"])[0].changes == {}


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'opensimplex'"), ValueError("too few")])
def test_what_shows_while_attaching_is_one_line(
    checkout: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "attach", lambda attachment: (_ for _ in ()).throw(error))
    result = CliRunner().invoke(main, [str(checkout), "train.py", "--cfg=msconD"])
    assert (result.exit_code, result.output) == (1, f"Error: {checkout}: {error}\n")


def check(cfg: str, arguments: list[str], **given: Any) -> None:
    check_settings(method_changes(cfg, given), arguments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "scales must be 1 and any of 4, 8 for images of 16 px, got 1, 8, 16"),
        ({"scales": [1, 8], "adv_weights": [1, 2, 3]}, r"need 2 weights for scales \[1, 8\], got 3"),
        ({"scales": [8]}, "scales must be 1 and any of"),
    ],
)
def test_settings_are_tried_on_the_data(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data.zip")
    with pytest.raises(ValueError, match=words):
        check("msconD", ["--outdir=runs", "--data", str(data), "-n"], **given)
    check("msconD", [f"--data={data}"], scales=[1, 8])
    check("multiscale", [f"--data={data}"], scales=[1, 4])


def double_logits(forward: Any) -> Any:
    return lambda self, *args: forward(self, *args) * 2


def rename_a_layer(forward: Any) -> Any:
    def run(self: Any, *args: Any) -> Any:
        logits = forward(self, *args)
        self.dense = self._modules.pop("fc")
        return logits

    return run


@pytest.mark.parametrize("change", [double_logits, rename_a_layer])
def test_other_final_layers_are_refused(change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path / "data.zip")
    epilogue = networks.DiscriminatorEpilogue
    monkeypatch.setattr(epilogue, "forward", change(epilogue.forward))
    with pytest.raises(ValueError, match="DiscriminatorEpilogue differs from that of StyleGAN2-ADA; NVlabs/"):
        check("msconD", [f"--data={data}"], scales=[1, 8])
    check("msconD", [f"--data={data}"], scales=[1, 8], epilogue="table")  # replaces them


@pytest.mark.parametrize("arguments", [["--data=nowhere.zip"], [], ["--gpus=many"], ["--gpus=0"], ["--batch=x"]])
def test_other_mistakes_are_left_to_the_script(arguments: list[str]) -> None:
    check("msconD", arguments)


@pytest.mark.parametrize(("gpus", "batch", "is_legal"), [(1, 1, False), (1, 2, True), (2, 2, True)])
def test_passes_of_one_image_are_refused(gpus: int, batch: int, is_legal: bool) -> None:
    arguments = [f"--gpus={gpus}", f"--batch={batch}"]
    check("multiscale", arguments)
    if is_legal:
        check("msconD", arguments)
    else:
        with pytest.raises(ValueError, match="each pass has only 1; raise --batch"):
            check("msconD", arguments)


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
