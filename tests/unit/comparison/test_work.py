"""The process of one run, with stand-ins for training and scoring."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from comparison import samples, work
from comparison.jobs import write_job
from dnnlib.atomic import append_line
from dnnlib.errors import UserError
from dnnlib.jsonl import read_lines
from dnnlib.signals import JOB_SIGNALS, available
from tests.unit.comparison.fake_runs import make_job

FAKE_TRAIN = """
import json, pathlib, sys, time
place = [word.partition("=")[2] for word in sys.argv if word.startswith(("--outdir", "--continue"))][0]
is_new = any(word.startswith("--outdir") for word in sys.argv)
run = pathlib.Path(place) / "00000-run" if is_new else pathlib.Path(place)
run.mkdir(exist_ok=True)
(run / "training_options.json").write_text(json.dumps({"training_set_kwargs": {"use_labels": "--cond=1" in sys.argv}}))
with open(run.parent / "commands", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
BEHAVIOR
for name in ("000000", "000001", "000002"):
    (run / f"network-snapshot-{name}.pkl").touch()
kimg = [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--kimg")][0]
(run / "exit_status.json").write_text(json.dumps({"reason": "finished", "kimg": kimg}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run whose train.py does as FAKE_TRAIN says; signals are handled as before afterwards."""
    before = {number: signal.getsignal(number) for number in available("SIGINT", *JOB_SIGNALS)}
    monkeypatch.setattr(work, "REPOSITORY", tmp_path)
    monkeypatch.setattr(samples, "draw_samples", lambda snapshot, path, device: path.touch())
    set_train(tmp_path, "")
    folder = tmp_path / "out/stylegan2/seed0"
    write_job(folder, make_job())
    yield folder
    for number, handler in before.items():
        signal.signal(number, handler)


def set_train(tmp_path, behavior):
    (tmp_path / "train.py").write_text(FAKE_TRAIN.replace("BEHAVIOR", behavior))


class Scorer:
    """Records what it is asked, as calc_metrics.py does."""

    def __init__(self, protocol=None):
        self.asked, self.protocol = [], protocol or {}

    def __call__(self, arguments):
        flags = dict(word.removeprefix("--").split("=", 1) for word in arguments)
        network, metric = Path(flags["network"]), flags["metrics"]
        self.asked.append((network.name[17:-4], metric))
        record = {"results": {metric: 1.0}, "snapshot_pkl": network.name, "protocol": self.protocol}
        append_line(network.with_name(f"metric-{metric}.jsonl"), json.dumps(record))


def no_boxes(arguments):
    raise AssertionError("there are no object metrics")


def commands(folder):
    return [json.loads(line) for line in (folder / "commands").read_text().splitlines()]


def test_trains_scores_and_draws_once(folder):
    scorer = Scorer()
    work.run_job(folder, scorer, no_boxes)
    assert scorer.asked == [
        ("000002", "fd_tiny"),
        ("000002", "okd_tiny_car"),
        ("000001", "fd_tiny"),
        ("000001", "okd_tiny_car"),
    ]
    assert (folder / "samples.png").exists()
    (command,) = commands(folder)
    assert command[0] == f"--outdir={folder}"
    assert {"--kimg=3", "--tick=0.25", "--snap=4", "--seed=0", "--metrics=none", "--cfg=stylegan2"} <= set(command)
    scorer.asked.clear()
    work.run_job(folder, scorer, no_boxes)
    assert not scorer.asked
    assert len(commands(folder)) == 1


def test_a_longer_run_is_continued(folder):
    work.run_job(folder, Scorer(), no_boxes)
    write_job(folder, make_job(kimg=9))
    work.run_job(folder, Scorer(), no_boxes)
    assert commands(folder)[1][0] == f"--continue={folder}/00000-run"


def test_a_score_that_was_being_written_is_computed_again(folder):
    work.run_job(folder, Scorer(), no_boxes)
    path = folder / "00000-run/metric-fd_tiny.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    scorer = Scorer()
    work.run_job(folder, scorer, no_boxes)
    assert scorer.asked == [("000001", "fd_tiny")]
    assert [record["snapshot_pkl"][17:-4] for _number, record in read_lines(path)] == ["000002", "000001"]


@pytest.mark.parametrize("is_found", [True, False])
def test_boxes_are_drawn_once(folder, is_found):
    asked = []

    def generate(arguments):
        asked.append(arguments)
        outdir = Path(arguments[1].partition("=")[2])
        outdir.mkdir()
        (outdir / "seed0000.png").touch()
        if is_found:
            (outdir / "boxes.png").touch()

    work.run_job(folder, Scorer({"object_detector": "scenes"}), generate)
    assert asked[0][0].endswith("network-snapshot-000002.pkl")
    assert {"--boxes", "--object-detector=scenes"} <= set(asked[0])
    assert (folder / "boxes.png").exists() == is_found
    assert not (folder / "boxes").exists()
    work.run_job(folder, Scorer(), generate)
    assert len(asked) == 1


def test_boxes_of_a_conditional_network(folder):
    write_job(folder, make_job(flags=["--cond=1"]))
    asked = []

    def generate(arguments):
        asked.append(arguments)
        Path(arguments[1].partition("=")[2]).mkdir()

    work.run_job(folder, Scorer({"object_detector": "scenes"}), generate)
    assert "--class=0" in asked[0]


def test_failed_training(folder, tmp_path):
    set_train(tmp_path, "sys.exit(3)")
    with pytest.raises(UserError, match=r"train\.py ended with exit status 3"):
        work.run_job(folder, Scorer(), no_boxes)


def test_signals_reach_training(folder, tmp_path):
    set_train(
        tmp_path,
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: ((run / 'saved').touch(), sys.exit(75)))\n"
        "(run / 'ready').touch()\n"
        "time.sleep(60)",
    )

    def send():
        while not (folder / "00000-run/ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(work.Stop) as stop:
        work.run_job(folder, Scorer(), no_boxes)
    assert stop.value.code == 75
    assert (folder / "00000-run/saved").exists()


@pytest.mark.parametrize("signum", available("SIGINT", *JOB_SIGNALS))
def test_signals_stop_scoring(folder, signum):
    def score(arguments):
        os.kill(os.getpid(), signum)

    with pytest.raises(work.Stop):
        work.run_job(folder, score, no_boxes)


def test_ends_when_its_parent_is_gone(folder):
    # It watches a process that is not its parent.
    with pytest.raises(work.Stop):
        work.run_job(folder, lambda arguments: time.sleep(20), no_boxes, parent=os.getpid())


def test_the_first_of_a_metric_is_alone(tmp_path):
    entered, may_leave = threading.Event(), threading.Event()

    def first():
        with work._first_alone(tmp_path, "fd"):
            entered.set()
            may_leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    order = []

    def second():
        with work._first_alone(tmp_path, "fd"):
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    waiting.join(0.3)
    order.append("first leaves")
    may_leave.set()
    waiting.join(10)
    thread.join(10)
    assert order == ["first leaves", "second"]
    with work._first_alone(tmp_path, "fd"), work._first_alone(tmp_path, "fd"):
        pass  # later nobody waits


def test_extra_flags_override_the_defaults(tmp_path):
    command = work.train_command(tmp_path, None, make_job(flags=["--cfg=stylegan2", "--workers=0"]))
    assert command.index("--workers=0") > command.index("--workers=1")
    assert command[0] == sys.executable
