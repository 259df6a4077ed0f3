from __future__ import annotations

from pathlib import Path

import click
import pytest

from msconD.attach_flags import method_changes, read_arguments
from tests.unit.msconD.test_checkout import write_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path)


def test_the_flags_of_the_method_are_taken_out(checkout: Path) -> None:
    arguments = ["--outdir", "runs", "--scales", "1-8", "-n", "--cfg=msconD", "--con-temp=0.1", "--resume", "noresume"]
    attachment, others = read_arguments(checkout, "train.py", arguments)
    assert others == ["--outdir", "runs", "-n", "--resume", "noresume", "--cfg=stylegan2"]
    assert attachment.changes == method_changes("msconD", {"scales": [1, 8], "con_temp": 0.1})
    assert attachment.changes["D_kwargs"]["scales"] == [1, 8]
    assert attachment.changes["loss_kwargs"]["con_temp"] == 0.1


@pytest.mark.parametrize("text", ["--cfg=auto --seed 1 --help", "--seeds 0-3 --trunc=0.5", "--cfg=unheard-of", ""])
def test_other_command_lines_stay_as_they_are(checkout: Path, text: str) -> None:
    attachment, others = read_arguments(checkout, "train.py", text.split())
    assert sorted(others) == sorted(text.split())
    assert attachment.changes == {}


@pytest.mark.parametrize("missing", ["training", "dnnlib"])
def test_a_folder_that_is_no_checkout(checkout: Path, missing: str) -> None:
    (checkout / missing / "__init__.py").unlink()
    with pytest.raises(
        click.ClickException, match=rf"is not a StyleGAN2-ADA checkout: {missing}/__init__.py is missing"
    ):
        read_arguments(checkout, "train.py", [])
