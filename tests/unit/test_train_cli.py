"""The command line of ``train.py``: help, dry run, and what a user can get wrong."""

import io
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import train
from dnnlib.heartbeat import heartbeat
from tests.helpers import REPOSITORY
from tests.image_files import encode, images, random_image, write_folder, write_zip
from tests.training_runs import new_run, states, tiny_options, train_here, write_dataset

HELP_FILE = REPOSITORY / "tests/api/train-help.txt"
OFFICIAL_DEFAULTS = {
    "gpus": 1,
    "snap": 50,
    "metrics": ("fid50k_full",),
    "seed": 0,
    "dry_run": False,
    "cond": False,
    "subset": None,
    "mirror": False,
    "cfg": "auto",
    "gamma": None,
    "kimg": None,
    "batch": None,
    "aug": None,
    "p": None,
    "target": None,
    "augpipe": None,
    "resume": None,
    "freezed": None,
    "fp32": False,
    "nhwc": False,
    "nobench": False,
    "allow_tf32": False,
    "workers": 3,
}
"""Those of StyleGAN2-ADA; None follows --cfg or another flag."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Things that command lines name."""
    folder = tmp_path_factory.mktemp("cli")
    write_dataset(folder / "data.zip")
    write_dataset(folder / "plain.zip", labeled=False)
    write_dataset(folder / "wide.zip", resolution=32)
    write_folder(folder / "sizes", {"a.png": encode(random_image()), "b.png": encode(random_image(size=(16, 16)))})
    write_folder(folder / "oblong", images(2, size=(16, 8)))
    write_zip(folder / "missing_label.zip", images(2), [["0/000.png", 1]])
    write_folder(folder / "mixed", {"cat/a.png": encode(random_image()), "b.png": encode(random_image())})
    write_folder(folder / "flat", {"a.png": encode(random_image())})
    (folder / "empty").mkdir()
    (folder / "text.zip").write_text("not a zip")
    (folder / "file").touch()
    for name, data in (("source", "wide.zip"), ("damaged", "data.zip")):
        options = tiny_options(folder / data, 4)
        train_here(new_run(folder / name, options), options, network_snapshot_ticks=1)
    states(folder / "damaged")[-1].write_bytes(b"")
    new_run(folder / "half", {}).joinpath("training_options.json").write_text('{"num_gpus": 1,')
    (folder / "no_run").mkdir()
    return folder


@pytest.fixture(autouse=True)
def _no_heartbeat(monkeypatch):
    """What is printed must not depend on how busy the machine is."""
    monkeypatch.setattr(heartbeat.__wrapped__, "__defaults__", (1e6,))


def run(folder, flags):
    """``train.py`` in ``folder``, with what every command line needs where it is not given."""
    given = {flag.split("=")[0] for flag in flags}
    needed = {"--outdir": "runs", "--data": "data.zip", "--metrics": "none", "--device": "cpu", "--workers": "0"}
    command = [*flags, *(f"{flag}={value}" for flag, value in needed.items() if flag not in given and value)]
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        return CliRunner().invoke(
            train.main, [flag for flag in command if not flag.endswith("=ABSENT")], prog_name="train.py"
        )
    finally:
        os.chdir(before)


def test_help():
    """After a change that is meant: COLUMNS=120 python train.py --help > tests/api/train-help.txt."""
    command = [sys.executable, "train.py", "--help"]
    result = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == HELP_FILE.read_text()


def test_help_does_not_wait_for_torch():
    code = "import sys, train; train.main(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.DEVNULL).returncode == 0


def test_flags_and_defaults_are_those_of_the_reference():
    with train.main.make_context("train.py", ["--outdir=runs", "--data=data.zip"]) as context:
        assert {name: context.params[name] for name in OFFICIAL_DEFAULTS} == OFFICIAL_DEFAULTS


def test_short_flag():
    with train.main.make_context("train.py", ["-n"]) as context:
        assert context.params["dry_run"]


def test_a_dry_run_checks_and_prints_and_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    result = run(folder, ["-n", "--cond=1", "--cfg=stylegan2", "--gamma=3"])
    assert result.exit_code == 0
    text = result.output.removeprefix("Training options:\n")
    options, end = json.JSONDecoder().raw_decode(text)
    assert options["loss_kwargs"]["r1_gamma"] == 3
    assert options["training_set_kwargs"]["use_labels"]
    for word in ("Images:", "Networks:", "Batch:", "Length:", "Memory:", "Disk:", "Dry run: nothing was written."):
        assert word in text[end:]
    assert sorted(folder.rglob("*")) == before


def test_a_dry_run_of_a_run_that_is_continued(folder):
    result = run(folder, ["-n", "--continue=source", "--data=wide.zip", "--kimg=1"])
    assert result.exit_code == 0
    assert "Continuing source\n" in result.output


MISTAKES = {
    "transform without size": (["--transform=pad"], "--transform needs --size"),
    "no data": (["--data=ABSENT"], "a new run needs --outdir and --data; --continue=RUN continues an old one"),
    "no outdir": (["--outdir=ABSENT"], "a new run needs --outdir and --data"),
    "outdir is a file": (["--outdir=file"], "file"),
    "outdir in a file": (
        ["--outdir=file/runs"],
        "'--outdir': file/runs: a file stands where a folder is needed; choose another path",
    ),
    "no such data": (["--data=absent.zip"], "absent.zip"),
    "empty folder": (["--data=empty"], "empty: no image files found"),
    "not a zip": (["--data=text.zip"], "text.zip"),
    "several sizes": (["--data=sizes"], "dataset_tool.py --source="),
    "not square": (["--data=oblong"], "dataset_tool.py --source="),
    "a label is missing": (["--data=missing_label.zip", "--cond=1"], "0/001.png"),
    "no labels": (["--data=plain.zip", "--cond=1"], "plain.zip has no dataset.json with labels: use --cond=0, or make"),
    "images without a class": (["--data=mixed", "--cond=1", "--size=16"], "train.py with --cond=0)"),
    "no classes": (["--data=flat", "--cond=1", "--size=16"], "--cond=1 needs labels, but flat has neither folders of"),
    "large subset": (["--subset=25"], "--subset must be 1 to 24, the images in "),
    "batch and gpus": (["--gpus=3", "--batch=8"], "--batch=8 must be a multiple of --gpus=3"),
    "batch and its part": (["--batch=8", "--batch-gpu=3"], "--batch-gpu=3 must divide the 8 images"),
    "minibatch std": (["--batch=8", "--mbstd-group=3"], "must be a multiple of the minibatch-std group 3"),
    "p without fixed": (["--p=0.5"], "--p needs --aug=fixed, got --aug=ada"),
    "fixed without p": (["--aug=fixed"], "--aug=fixed needs --p"),
    "p beyond 1": (["--aug=fixed", "--p=1.5"], "1.5 is not in the range"),
    "target without ada": (["--aug=noaug", "--target=0.5"], "--target needs --aug=ada"),
    "augpipe without augmentation": (["--aug=noaug", "--augpipe=bg"], "--augpipe has no effect with --aug=noaug"),
    "unknown augpipe": (["--augpipe=xyz"], "'xyz' is not one of 'blit'"),
    "unknown cfg": (["--cfg=stylegan4"], "'stylegan4' is not one of 'auto'"),
    "unknown metric": (["--metrics=fid5k"], "there is no metric 'fid5k'; choose from fid50k_full"),
    "unknown flag": (["--gama=3"], "No such option"),
    "not a number": (["--gamma=high"], "'high': give a number from 0"),
    "not a whole number": (["--kimg=0.5"], "Invalid value for '--kimg': '0.5': give a whole number from 1"),
    "not a switch": (["--mirror", "--cfg=auto"], "'--cfg=auto': give 1 or 0, such as --mirror=1"),
    "more layers than D has": (["-n", "--freezed=99"], "--freezed=99: D has 7 layers that can be frozen: give 0 to 7"),
    "negative seed": (["--seed=-1"], "-1 is not in the range"),
    "no images per tick": (["--tick=0"], "0"),
    "flag of another cfg": (["--con-weight=1"], "--con-weight has no effect with --cfg=auto; it belongs to --cfg="),
    "flag of a method": (["--cfg=msconD", "--con-temp=cold"], "'cold': give a number from 0.02"),
    "scales of a method": (["--cfg=msconD"], "scales must be 1 and any of 4, 8 for images of 16 px"),
    "narrow networks": (["--cbase=8"], "channel_base must be at least the resolution, 16"),
    "folder in a name": (["--desc=a/b"], "--desc='a/b' is part of a folder name"),
    "queue beyond any memory": (["--cfg=insgen", "--rqs=999999999999"], "999999999999 is not in the range 1<=x<=1048"),
    "no gpu": (["--device=cuda"], "--device=cuda: torch finds no CUDA device"),
    "no such snapshot": (
        ["--resume=absent.pkl", "--kimg=1"],
        "--resume=absent.pkl: no such file or folder; give a snapshot",
    ),
    "no such name": (
        ["--resume=ffhq128"],
        "--resume=ffhq128: no such file or folder (known names: latest, noresume, f",
    ),
    "no such images": (["--metricdata=absent", "--metrics=fid50k"], "--metricdata=absent: no such file or folder"),
    "snapshot that is none": (["--resume=data.zip", "--kimg=1"], "data.zip"),
    "snapshot of another size": (
        ["--resume=source/network-snapshot-000000.pkl", "--kimg=1"],
        "the networks differ, most likely in resolution, colors (grey or RGB: dataset_tool.py --mode), channels",
    ),
    "continue what": (["--continue=no_run"], "--continue=no_run: not a run folder, training_options.json is missing"),
    "continue nothing": (["--continue=latest", "--outdir=empty"], "--continue=latest: no run in empty"),
    "continue from where": (["--continue=latest", "--outdir=ABSENT"], "--continue=latest needs --outdir"),
    "damaged options": (["--continue=half"], "half/training_options.json"),
    "damaged states": (["--continue=damaged", "--kimg=1"], "no intact checkpoint is left in"),
}


@pytest.mark.parametrize(("flags", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_line(folder, monkeypatch, flags, words):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    runs = list(folder.glob("runs/*"))
    result = run(folder, flags)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("Usage: ", "Try "))]
    assert [bool(line) for line in lines].count(True) == 1
    assert lines[-1].startswith("Error: ")
    assert words in lines[-1]
    assert list(folder.glob("runs/*")) == runs, "an empty run folder is left behind"


def test_a_switch_without_a_value():
    result = CliRunner().invoke(train.main, ["--data=data.zip", "--mirror"])
    assert result.stderr.splitlines()[-1] == "Error: --mirror needs a value: give 1 or 0, such as --mirror=1"


def test_a_run_goes_on_where_nobody_reads_what_is_printed_before_it(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    trained = []
    monkeypatch.setattr("training.run.launch.train_run", lambda flags: print("Images:") is None and trained.append(1))
    monkeypatch.setattr("sys.stdout", Gone())
    with pytest.raises(SystemExit):  # that of a run that was stopped
        train.main(["--outdir=runs", "--data=data.zip"], standalone_mode=False)
    assert trained


def test_exit_status_of_a_run_that_was_stopped(folder, monkeypatch):
    monkeypatch.setattr("training.run.launch.train_run", lambda request: False)
    assert run(folder, []).exit_code == train.EXIT_STOPPED == 75
