"""The copy that is published says the same, and nothing about the machine."""

import json

import numpy as np
import PIL.Image
import pytest

from comparison.plan import read_plan
from comparison.publication import copy_records, without_paths
from comparison.report import write_report
from comparison.samples import COLUMNS, ROWS
from dnnlib.util import UserError
from tests.unit.comparison.fake_runs import RESOLUTION, write_comparison
from training.data.grid import write_png


@pytest.fixture
def outdir(tmp_path):
    outdir = write_comparison(tmp_path / "here")
    for run_dir in outdir.glob("*/*/0*"):
        (run_dir / "network-snapshot-000003.pkl").write_bytes(b"weights")
        (run_dir / "training_options.json").write_text(json.dumps({"training_set_kwargs": {"path": "/secret/a.zip"}}))
    return outdir


@pytest.fixture
def dest(outdir, tmp_path):
    copy_records(read_plan(outdir), tmp_path / "there")
    return tmp_path / "there"


def test_the_same_page(outdir, dest):
    pages = [write_report(read_plan(folder), {}) for folder in (outdir, dest)]
    assert [path.read_bytes() for path in pages[0]] == [path.read_bytes() for path in pages[1]]


def test_neither_weights_nor_paths(dest):
    files = [path for path in dest.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".png"}
    assert not [path for path in files if b"secret" in path.read_bytes() or b"/nowhere" in path.read_bytes()]
    assert json.loads(next(dest.glob("stylegan2/seed0/*/training_options.json")).read_bytes()) == {
        "training_set_kwargs": {"path": "a.zip"}
    }


def test_samples_are_those_that_the_page_shows(dest):
    assert {path.parent.name for path in dest.rglob("samples.png")} == {"seed0"}
    assert len(list(dest.rglob("samples.png"))) == len(list(dest.rglob("samples.json"))) == 2


def test_real_images_are_there_once_and_cut(outdir, dest, tmp_path):
    assert len(list(dest.rglob("reals.png"))) == 1
    large = np.zeros([RESOLUTION * ROWS * 2, RESOLUTION * COLUMNS * 2, 3], np.uint8)
    write_png(large, next(outdir.glob("*/*/*/reals.png")))
    copy_records(read_plan(outdir), tmp_path / "again")
    with PIL.Image.open(next(tmp_path.glob("again/*/*/*/reals.png"))) as image:
        assert image.size == (RESOLUTION * COLUMNS, RESOLUTION * ROWS)


def test_lines_keep_their_numbers(outdir, tmp_path):
    path = next(outdir.glob("stylegan2/seed0/*/metric-fd_tiny.jsonl"))
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join(["damaged", first, *others]) + "\n")
    copy_records(read_plan(outdir), tmp_path / "again")
    copied = (tmp_path / "again" / path.relative_to(outdir)).read_text().splitlines()
    assert (copied[0], json.loads(copied[1])) == ("", json.loads(first))


def test_runs_that_have_not_begun(outdir, tmp_path):
    for folder in list(outdir.glob("stylegan2/seed1/0*")):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    copy_records(read_plan(outdir), tmp_path / "again")
    pages = [write_report(read_plan(folder), {})[0].read_text() for folder in (outdir, tmp_path / "again")]
    assert pages[0] == pages[1]
    assert "stylegan2, seed 1" in pages[0]


def test_a_damaged_record(outdir, tmp_path):
    path = next(outdir.glob("stylegan2/seed0/*/training_options.json"))
    path.write_text("{")
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        copy_records(read_plan(outdir), tmp_path / "again")


@pytest.mark.parametrize("name", [".", "evidence"])
def test_a_folder_of_the_comparison_itself_is_refused(outdir, name):
    with pytest.raises(UserError, match=r"--records=.*choose a folder outside of"):
        copy_records(read_plan(outdir), outdir / name)


def test_paths():
    given = {"a": ["/home/me/cats.zip", "--data=/home/me/cats.zip", "cats.zip", "1/2", 3.5], "b": None}
    assert without_paths(given) == {"a": ["cats.zip", "--data=cats.zip", "cats.zip", "1/2", 3.5], "b": None}
