"""The demo, made small."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

import demo
from tests.processes import run_script
from training.run.latest import SHIPPED


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
        {"snapshot_pkl": name, "results": {demo.METRIC: value}} for name, value in (("a", 1), (snapshot.name, 2.4))
    ]
    (tmp_path / f"metric-{demo.METRIC}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert demo.score(snapshot) == "2"
