"""compare.py as a user runs it: left alone, killed twice, and again when everything is done."""

import contextlib
import os
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest

from tests.helpers import REPOSITORY
from tests.training_runs import write_dataset

METHODS = "stylegan2,multiscale+scales=1,8,msconD+scales=1,8+con-max-anchors=16+proj-dim=16"
SMALL = "--cbase=64 --cmax=16 --map-depth=1 --batch=64 --workers=0 --state-minutes=0 --device=cpu"
NUM_RUNS = 6
PATIENCE_SEC = 900


def command(outdir: Path, data: Path) -> list[str]:
    return [
        *(sys.executable, str(REPOSITORY / "compare.py"), f"--outdir={outdir}", f"--data={data}", f"--cfgs={METHODS}"),
        *("--seeds=0,1", "--kimg=2", "--metrics=fd_tiny", "--small", "--jobs=2", f"--extra={SMALL}"),
        "--score-extra=--device=cpu",
    ]


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "tests/cheap_metric"),
        "OMP_NUM_THREADS": "1",
        "DNNLIB_CACHE_DIR": str(tmp_path / "cache"),
    }


def run(outdir: Path, data: Path, tmp_path: Path, **kwargs) -> str:
    result = subprocess.run(command(outdir, data), env=environment(tmp_path), capture_output=True, text=True, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def kill_when(process: subprocess.Popen, happened, with_children: bool) -> None:
    """Kill a comparison, or all its processes, as soon as something has happened."""
    give_up_sec = time.monotonic() + PATIENCE_SEC
    while not happened():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < give_up_sec
        time.sleep(0.05)
    victims = [process.pid]
    if with_children:
        victims += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    for pid in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    process.wait()


class WithoutTimes(HTMLParser):
    """What a page says, without the elements that depend on how fast the machine was, and the records of costs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.depth = 0  # within an element to leave out
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if self.depth or "data-timing" in dict(attrs):
            self.depth += tag not in ("meta", "img")
        else:
            self.words.append(f"{tag} {sorted(attrs)}")

    def handle_endtag(self, tag):
        self.depth -= self.depth > 0

    def handle_data(self, data):
        if not self.depth:
            self.words.append(data)


def lines(outdir: Path, pattern: str) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in outdir.glob(f"*/seed*/*/{pattern}"))


@pytest.mark.slow
def test_killed_twice_gives_the_same_page(tmp_path):
    data = write_dataset(tmp_path / "images.zip", num=64, resolution=16, labeled=False)
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    run(alone, data, tmp_path)

    with open(tmp_path / "output.txt", "wb") as output:
        arguments = {"stdout": output, "stderr": output, "env": environment(tmp_path)}
        # Its runs are left behind, in the middle of training, and stop by themselves.
        kill_when(subprocess.Popen(command(killed, data), **arguments), lambda: lines(killed, "stats.jsonl") > 3, False)
        # Everything is killed, in the middle of scoring or close to it.
        kill_when(
            subprocess.Popen(command(killed, data), **arguments), lambda: lines(killed, "metric-*.jsonl") > 2, True
        )
    assert f"{NUM_RUNS} runs, " in run(killed, data, tmp_path)

    pages = [WithoutTimes((outdir / "comparison.html").read_text()).words for outdir in (alone, killed)]
    assert pages[0] == pages[1]
    assert not any("Not complete" in word for word in pages[0])
    for outdir in (alone, killed):
        assert lines(outdir, "metric-fd_tiny.jsonl") == NUM_RUNS * 2  # two snapshots each, none scored twice
    assert all(
        (alone / path.relative_to(killed)).read_bytes() == path.read_bytes() for path in killed.glob("*/*/samples.png")
    )

    # Nothing is left to do: the page is drawn again, without training.
    before = {path: path.stat().st_mtime_ns for path in killed.glob("*/*/*/*")}
    page = (killed / "comparison.html").read_bytes()
    (killed / "comparison.html").unlink()
    assert f"{NUM_RUNS} runs, {NUM_RUNS} of them done" in run(killed, data, tmp_path)
    assert (killed / "comparison.html").read_bytes() == page
    assert {path: path.stat().st_mtime_ns for path in killed.glob("*/*/*/*")} == before

    # The records alone are enough.
    for path in [*killed.glob("*/*/*/*.pkl"), *killed.glob("*/*/*/training-state-*")]:
        path.unlink()
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "compare.py"), f"--outdir={killed}", "--draw"],
        env=environment(tmp_path),
        check=True,
    )
    assert result.returncode == 0
    assert (killed / "comparison.html").read_bytes() == page
