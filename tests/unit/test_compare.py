"""The command line of compare.py: what it reads, and what it refuses before anything is trained."""

import pytest
from click.testing import CliRunner

import compare
from comparison import checks
from tests.training_runs import write_dataset
from tests.unit.comparison.fake_runs import write_comparison


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "images.zip", labeled=False)


def run(*arguments):
    return CliRunner().invoke(compare.main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("text", "seeds"), [("0", (0,)), ("0,2,5-7", (0, 2, 5, 6, 7)), (" 1 , 3", (1, 3))])
def test_seeds(text, seeds):
    assert compare.parse_seeds(None, None, text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "1,1", "0-2,2", "5-3", str(2**32), "0-99999999999", "0-1000"])
def test_seeds_that_are_none(text, tmp_path):
    result = run(f"--outdir={tmp_path}", f"--seeds={text}")
    assert result.exit_code == 2
    assert "Invalid value for '--seeds'" in result.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "give --data, --cfgs and --kimg"),
        (["--cfgs=nonsense", "--kimg=1"], "there is no configuration 'nonsense'"),
        (["--cfgs=stylegan2", "--kimg=1", "--metrics=nonsense"], "there is no metric 'nonsense'"),
        (["--cfgs=stylegan2", "--kimg=1", "--last-metrics=nonsense"], "there is no metric 'nonsense'"),
        (["--cfgs=stylegan2", "--kimg=1", "--metrics=,"], "--metrics is empty"),
        (["--cfgs=stylegan2", "--kimg=1", "--last-metrics="], "--last-metrics is empty: name at least one, or leave"),
        (["--cfgs=msconD", "--kimg=1", "--scales="], "--scales is empty: name at least one, or leave the flag out"),
        (["--cfgs=msconD", "--kimg=1", "--score-extra=--object-detector="], "no object detector '': --object-detector"),
        (["--cfgs=stylegan2+nonsense=1", "--kimg=1"], "stylegan2+nonsense=1 cannot be trained: No such option"),
        (["--cfgs=stylegan2+lecam", "--kimg=1"], "cannot be trained: --lecam needs a value: give a number from 0"),
        (["--cfgs=stylegan2+con-weight=1", "--kimg=1"], "--con-weight has no effect with --cfg=stylegan2"),
        (["--cfgs=stylegan2,insgen", "--kimg=1", "--extra=--p=2"], "stylegan2 cannot be trained"),
        (["--cfgs=stylegan2", "--kimg=1", "--extra=--seed=7"], "--extra sets --seed"),
        (["--cfgs=stylegan2", "--kimg=1", "--score-extra=--nonsense=1"], "--score-extra: No such option '--nonsense'"),
        (["--cfgs=stylegan2", "--kimg=1", "--score-extra=--metrics=x"], "--score-extra: Invalid value for '--metrics'"),
        (["--cfgs=stylegan2", "--kimg=1", "--score-extra=--data2=x"], "--score-extra sets --data2"),
        (["--cfgs=stylegan2", "--kimg=1", "--score-extra=--data=/no.zip"], "--score-extra: no such folder or zip:"),
    ],
)
def test_what_is_refused(tmp_path, data, monkeypatch, flags, words):
    monkeypatch.setattr(compare, "compare", lambda *_, **__: pytest.fail("it was not refused"))
    result = run(f"--outdir={tmp_path / 'out'}", f"--data={data}", *flags)
    assert result.exit_code == 1, result.output
    assert words in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_real_images_of_another_size_are_refused(tmp_path, data, monkeypatch):
    monkeypatch.setattr(compare, "compare", lambda *_, **__: pytest.fail("it was not refused"))
    other = write_dataset(tmp_path / "other.zip", resolution=32, labeled=False)
    flags = ["--cfgs=stylegan2", "--kimg=1", f"--score-extra=--data={other}"]
    result = run(f"--outdir={tmp_path / 'out'}", f"--data={data}", *flags)
    assert f"--score-extra: {other} has images of 32 px, but training images have 16 px" in result.output


def test_what_is_not_named_is_said(tmp_path, data, monkeypatch):
    monkeypatch.setattr(checks, "check_metrics", lambda *_: None)
    monkeypatch.setattr(compare, "compare", lambda *_, **__: None)
    flags = [f"--outdir={tmp_path}", f"--data={data}", "--cfgs=stylegan2", "--kimg=1", "--small"]
    assert run(*flags, "--seeds=0,1").stdout == ""
    for seed in (0, 1):
        run_dir = tmp_path / f"stylegan2/seed{seed}/00000-images"
        run_dir.mkdir()
        (run_dir / "training_options.json").write_text("{}")
    said = "Not on the page, because --cfgs and --seeds do not name them: stylegan2/seed0\n"
    assert run(*flags, "--seeds=1").stdout == said


def test_a_folder_is_needed():
    assert "--outdir is missing" in run("--draw").output


def test_nothing_to_draw(tmp_path):
    assert "holds no comparison: there is no comparison.json in it" in run(f"--outdir={tmp_path}", "--draw").output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--draw", "--records=there"], "--draw and --records: choose one"),
        (["--slurm-extra=timeout_min=600"], "--slurm-extra has no effect without --slurm"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(tmp_path, flags, said):
    result = run(f"--outdir={tmp_path}", *flags)
    assert result.exit_code == 1
    assert said in result.output


def test_records_are_copied(tmp_path):
    outdir, dest = write_comparison(tmp_path / "here"), tmp_path / "there"
    result = run(f"--outdir={outdir}", f"--records={dest}")
    assert result.exit_code == 0, result.output
    assert f"to draw its page again: python compare.py --outdir={dest} --draw\n" in result.output
    assert f"Wrote {sum(path.is_file() for path in dest.rglob('*'))} files to {dest}" in result.output
