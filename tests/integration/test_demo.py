"""The demo, made small."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

import demo
from tests.processes import run_script
from training.run.lookup import SHIPPED
from training.run.options_file import write_options


@pytest.fixture
def small_demo(monkeypatch, tmp_path):
    """Scenes of 16 px, networks to match, and a metric whose network no test machine has."""
    monkeypatch.setattr(demo, "RESOLUTION_PX", 16)
    monkeypatch.setattr(demo, "NUM_SCENES", 80)
    monkeypatch.setattr(demo, "METRIC", "fid50k_full")
    monkeypatch.setenv("MSCOND_DETECTORS", str(tmp_path))
    (tmp_path / "inception-2015-12-05.pt").touch()
    small = ["--scales=1,8", "--cbase=64", "--cmax=16", "--tick=0.2", "--workers=0", "--batch=100"]
    monkeypatch.setattr(demo, "TRAINING_FLAGS", [*demo.TRAINING_FLAGS, *small])
    return tmp_path / "demo"


def run_quickly(command, cwd, check):
    result = run_script(*command[1:], cwd=cwd)
    print(result.stdout, end="")
    print(result.stderr, end="", file=sys.stderr)
    return result


@pytest.mark.slow
def test_demo(small_demo, monkeypatch):
    monkeypatch.setattr(subprocess, "run", run_quickly)
    outcome = CliRunner().invoke(demo.main, [f"--outdir={small_demo}", "--kimg=1"])
    assert outcome.exit_code == 0, outcome.output
    run_dir = next(small_demo.glob("00000-*"))
    with Image.open(run_dir / "before_after.png") as figure:
        assert figure.size == (2 * 12 * 64 + 16, 2 * (6 * 64 + 28))
    assert (run_dir / "logits.png").exists()
    assert "lower is better" not in outcome.output
    assert "Error" in outcome.stderr, "why there is no score"

    outcome = CliRunner().invoke(demo.main, [f"--outdir={small_demo}", "--kimg=2"])
    assert outcome.exit_code == 0, outcome.output
    assert len(list(small_demo.glob("0*"))) == 1, "it goes on"
    assert json.loads((run_dir / "exit_status.json").read_text())["kimg"] == 2


def test_panels_of_the_picture(tmp_path):
    kinds = [("a", (255, 0, 0), (20, 9), 4), ("b", (0, 255, 0), (20, 9), 4), ("c", (0, 0, 255), (12, 6), 8)]
    for name, color, (columns, rows), side_px in kinds:  # some grids show more images than the picture
        Image.new("RGB", (side_px * columns, side_px * rows), color).save(tmp_path / name, "png")
    panels = [demo.Panel(f"caption {name}", tmp_path / name, side_px) for name, _color, _size, side_px in kinds]
    demo.draw_panels(panels, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.size == (2 * 12 * 64 + 16, 2 * (6 * 64 + 28))
        right, lower = 12 * 64 + 16, 6 * 64 + 28
        for (_name, color, *_), (x, y) in zip(kinds, [(0, 28), (right, 28), (0, lower + 28)], strict=True):
            panel = figure.crop((x, y, x + 12 * 64, y + 6 * 64))
            assert panel.getcolors() == [(12 * 64 * 6 * 64, color)]
            assert len(figure.crop((x, y - 28, x + 12 * 64, y)).getcolors()) > 2, "a caption"


def test_the_card_of_the_generator_that_ships_tells_its_length():
    card = (SHIPPED[demo.SHIPPED] / "README.md").read_text()
    assert f"{demo.SHIPPED_KIMG} kimg" in card


def test_a_score_is_looked_up(tmp_path):
    snapshot = tmp_path / "network-snapshot-000000.pkl"
    lines = [
        {"snapshot_pkl": name, "results": {demo.METRIC: value}}
        for name, value in (("a", 1), (snapshot.name, 2.4), (snapshot.name, 9))  # the last one is of other images
    ]
    torn = '{"snapshot_pkl": "network-sn'
    (tmp_path / f"metric-{demo.METRIC}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    assert demo.score(snapshot) == "2"


@pytest.fixture
def commands(monkeypatch):
    """The commands of a demo, none of which is run."""
    run = []
    monkeypatch.setattr(demo, "run_python", lambda *arguments: run.append(arguments) or 0)
    return run


def make_run(outdir, path, *snapshots):
    run_dir = outdir / "00000-scenes"
    run_dir.mkdir(parents=True)
    write_options(run_dir, {"training_set_kwargs": {"path": str(path)}})
    for name in snapshots:
        (run_dir / name).touch()
    return run_dir


def test_a_run_of_other_data_is_not_taken_over(tmp_path, commands):
    run_dir = make_run(tmp_path, tmp_path / "photos.zip")
    outcome = CliRunner().invoke(demo.main, [f"--outdir={tmp_path}"])
    assert outcome.output == (
        f"Error: {run_dir} is not a run of this demo, which trains on {tmp_path / 'scenes.zip'}: choose another "
        "--outdir\n"
    )
    assert not commands


def test_a_run_of_an_earlier_call_goes_on_through_a_link_too(tmp_path, commands):
    run_dir = make_run(tmp_path / "demo", tmp_path / "demo/scenes.zip")
    (tmp_path / "link").symlink_to("demo")
    assert demo.train(tmp_path / "link", 24).samefile(run_dir)
    assert [command[:2] for command in commands][1:] == [("train.py", "--continue=latest")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["network-snapshot-000024.pkl"], "files network-snapshot-*.pkl: 1, the demo needs at least 2;"),
        (["network-snapshot-000000.pkl", "network-snapshot-000024.pkl"], "files fakes*.png: 0, the demo needs"),
    ],
)
def test_files_that_are_missing_are_told_in_one_line(tmp_path, commands, names, said):
    run_dir = make_run(tmp_path, tmp_path / "scenes.zip", *names)
    outcome = CliRunner().invoke(demo.main, [f"--outdir={tmp_path}"])
    assert outcome.output.startswith(f"Error: {run_dir}: {said}")
    assert len(outcome.output.splitlines()) == 1


def test_what_trains_longer_can_be_pasted(tmp_path, commands, monkeypatch):
    names = [f"network-snapshot-{kimg:06d}.pkl" for kimg in (0, 12, 24)]
    run_dir = make_run(tmp_path / "my demo", tmp_path / "my demo/scenes.zip", *names)
    (run_dir / "fakes000024.png").touch()
    monkeypatch.setattr(demo, "draw_panels", lambda panels, path: None)
    outcome = CliRunner().invoke(demo.main, [f"--outdir={tmp_path / 'my demo'}"])
    assert outcome.exit_code == 0, outcome.output
    said = outcome.output.splitlines()[-1]
    assert said == f"To train longer: python demo.py '--outdir={tmp_path / 'my demo'}' --kimg=48"
