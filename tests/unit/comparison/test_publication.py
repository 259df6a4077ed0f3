"""The copy that is published says the same, and nothing about the machine."""

import json

import numpy as np
import PIL.Image
import pytest

from comparison.methods import Method
from comparison.plan import PLAN_FILE, read_plan
from comparison.publication import copy_records, without_paths
from comparison.report import write_report
from comparison.samples import COLUMNS, ROWS
from dnnlib.errors import UserError
from tests.unit.comparison.fake_runs import RESOLUTION, make_job, write_comparison, write_run
from training.data.grid import write_png
from training.run.status import write_status


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


def test_no_names_of_machines(outdir, tmp_path):
    run_dir = next(outdir.glob("stylegan2/seed0/0*"))
    write_status(run_dir, "running", 1.5, 3.0)
    copy_records(read_plan(outdir), tmp_path / "again")
    copied = tmp_path / "again" / run_dir.relative_to(outdir) / "exit_status.json"
    assert json.loads(copied.read_bytes()) == {
        "reason": "running", "kimg": 1.5, "total_kimg": 3.0, "name": run_dir.name,
    }  # fmt: skip


def test_no_paths_in_errors(outdir, tmp_path):
    run_dir = next(outdir.glob("stylegan2/seed0/0*"))
    write_status(run_dir, "failed", 1.5, 3.0, error="training cannot go on: /home/me/cats.zip: no such file")
    copy_records(read_plan(outdir), tmp_path / "again")
    copied = tmp_path / "again" / run_dir.relative_to(outdir) / "exit_status.json"
    assert json.loads(copied.read_bytes())["reason"] == "failed"
    assert "/home/me" not in copied.read_text()


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


def test_what_is_no_copy_is_not_overwritten(outdir, dest, tmp_path):
    other = write_comparison(tmp_path / "other")
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"--records=.*other holds files that are not an earlier copy"):
        copy_records(read_plan(outdir), other)
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    for folder in (dest, tmp_path / "empty"):
        copy_records(read_plan(outdir), folder)


def write_runs_of(outdir, *methods):
    for method in methods:
        write_run(outdir / Method("stylegan2", (("resume", method),)).folder / "seed0", [1.0], 1, 1, make_job(
            f"stylegan2+resume={method}", flags=[f"--resume={method}"]))  # fmt: skip
    named = [Method("stylegan2", (("resume", method),)) for method in methods]
    plan = {"cfgs": [each.label for each in named], "folders": [f"{each.folder}/seed0" for each in named]}
    (outdir / PLAN_FILE).write_text(json.dumps(plan))
    return read_plan(outdir)


def test_paths_in_the_names_of_methods(tmp_path):
    plan = write_runs_of(tmp_path / "here", "/secret/a.pkl", "/secret/b.pkl")
    copy_records(plan, tmp_path / "there")
    there = read_plan(tmp_path / "there")
    assert [method.label for method in there.methods] == ["stylegan2+resume=a.pkl", "stylegan2+resume=b.pkl"]
    texts = [str(path) + path.read_bytes().decode(errors="replace") for path in (tmp_path / "there").rglob("*.json*")]
    assert not [text for text in texts if "secret" in text]
    assert "stylegan2+resume=a.pkl" in write_report(there, {})[0].read_text()


def test_methods_that_differ_by_their_folders_alone(tmp_path):
    plan = write_runs_of(tmp_path / "here", "/secret/a.pkl", "/other/a.pkl")
    with pytest.raises(UserError, match=r"two methods would be called stylegan2\+resume=a\.pkl"):
        copy_records(plan, tmp_path / "there")


def test_a_line_nested_too_deeply_is_left_out(outdir, tmp_path):
    path = next(outdir.glob("stylegan2/seed0/*/metric-fd_tiny.jsonl"))
    path.write_text('{"a": ' * 600 + "1" + "}" * 600 + "\n" + path.read_text())
    copy_records(read_plan(outdir), tmp_path / "again")
    assert (tmp_path / "again" / path.relative_to(outdir)).read_text().startswith("\n{")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/me/cats.zip", "cats.zip"),
        ("/home/me/lr=0.1/cats.zip", "cats.zip"),
        ("--data=/home/me/cats.zip", "--data=cats.zip"),
        ("--data=/home/me/a=b.zip", "--data=a=b.zip"),
        ("--lr=1/2", "--lr=1/2"),
        ({"a": ["cats.zip", "1/2", 3.5], "b": None}, {"a": ["cats.zip", "1/2", 3.5], "b": None}),
    ],
)
def test_paths(given, shown):
    assert without_paths(given) == shown
