"""What a run says of its health, the best snapshot, and the page, while it trains."""

import itertools
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dnnlib.errors import UserError
from metrics import metric_main
from tests.training_runs import read_stats, states, tiny_options, train_here, write_dataset
from training.run.health.history import DIVERSITY, NEAREST_REAL
from training.run.health.samples import SampleMeter


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


@pytest.fixture
def options(data):
    return {**tiny_options(data, 44), "image_snapshot_ticks": 1, "progress": "plain"}


@pytest.fixture
def diverging(monkeypatch):
    """All gradients of all phases were not finite, as far as anyone is told."""
    monkeypatch.setattr("training.phases.remove_nonfinite", lambda parameters: 5)


def test_a_run_writes_its_page_and_measures_its_samples(tmp_path, options, capsys):
    assert train_here(tmp_path / "run", options)
    page = (tmp_path / "run/report.html").read_text()
    assert "<dd>finished</dd>" in page
    assert "after 0.028 kimg" in page
    last = read_stats(tmp_path / "run")[-1]
    assert last[DIVERSITY]["num"] == 1
    assert last[NEAREST_REAL]["mean"] > 0
    assert "Warning" not in capsys.readouterr().out
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    shown = EventAccumulator(str(events), size_guidance={"images": 0}).Reload().Images("Samples")
    assert len(shown) == 6  # one before training


def test_warnings_are_everywhere(tmp_path, options, diverging, capsys):
    assert train_here(tmp_path / "run", options)
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if line.startswith("Warning")]
    assert warning.startswith("Warning: training diverges: 5 gradient values per step")
    assert [line.endswith(" warnings divergence") for line in lines if line.startswith("tick ")] == [True] * 5
    assert [line["Health/alarm/divergence"]["mean"] for line in read_stats(tmp_path / "run")] == [5] * 5
    assert "training diverges: 5 gradient values" in (tmp_path / "run/report.html").read_text()
    (sign,) = json.loads((tmp_path / "run/exit_status.json").read_text())["health"]
    assert (sign["kind"], sign["value"]) == ("divergence", 5)


def test_stopping_on_divergence(tmp_path, options, diverging):
    with pytest.raises(UserError, match=r"run: stopped at 0\.016 kimg, training diverges: 5 gradient values") as error:
        train_here(tmp_path / "run", options, stop_on="divergence")
    resume = f"--resume={tmp_path / 'run'}/training-state-000000004.safetensors"
    assert str(error.value).endswith(
        f"it would diverge again; a new run with other settings and {resume} starts from before"
    )
    assert resume in (tmp_path / "run/report.html").read_text()
    assert "--continue=" not in (tmp_path / "run/report.html").read_text()
    assert json.loads((tmp_path / "run/exit_status.json").read_text())["reason"] == "diverged"
    assert "stopped because training diverged" in (tmp_path / "run/report.html").read_text()
    assert len(read_stats(tmp_path / "run")) == 2
    # That of the first tick; the state that has diverged is not saved.
    assert [path.name for path in states(tmp_path / "run")] == ["training-state-000000004.safetensors"]


@pytest.mark.parametrize("is_evaluated", [False, True])
def test_the_checkpoint_from_before_the_divergence_stays(tmp_path, options, monkeypatch, is_evaluated):
    steps = itertools.count()
    monkeypatch.setattr("training.phases.remove_nonfinite", lambda parameters: 0 if next(steps) < 10 else 5)
    asked = {"metrics": ["one"], "metrics_ticks": 1} if is_evaluated else {}
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))

    @metric_main.register_metric
    def one(opts):
        return {"one": 1.0}

    with pytest.raises(UserError, match="stopped at"):
        train_here(tmp_path / "run", options, stop_on="divergence", state_interval_sec=0, **asked)
    healthy = [line for line in read_stats(tmp_path / "run") if "Health/alarm/divergence" not in line]
    assert len(read_stats(tmp_path / "run")) == len(healthy) + 2
    last_nimg = round(healthy[-1]["Progress/kimg"]["mean"] * 1000)
    assert states(tmp_path / "run")[-1].name == f"training-state-{last_nimg:09d}.safetensors"


def test_a_stop_in_the_first_tick_that_diverges_keeps_it_too(tmp_path, options, monkeypatch):
    steps = itertools.count()
    is_diverging = []
    monkeypatch.setattr(
        "training.phases.remove_nonfinite", lambda parameters: 0 if next(steps) < 10 else is_diverging.append(1) or 5
    )
    flags = {"stop_on": "divergence", "state_interval_sec": 0}
    assert not train_here(tmp_path / "run", options, abort_fn=lambda: bool(is_diverging), **flags)
    *_, healthy, first = read_stats(tmp_path / "run")
    assert "Health/alarm/divergence" in first
    last_nimg = round(healthy["Progress/kimg"]["mean"] * 1000)
    assert states(tmp_path / "run")[-1].name == f"training-state-{last_nimg:09d}.safetensors"


def test_scores_that_tensorboard_cannot_write_end_nothing(tmp_path, options, monkeypatch, capsys):
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))

    @metric_main.register_metric
    def one(opts):
        return {"one": 1.0}

    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("training.run.log.RunLog.write_metrics", fail)
    assert train_here(tmp_path / "run", options, metrics=["one"], metrics_ticks=1)
    assert "Not written, training goes on: No space left on device" in capsys.readouterr().out


def test_a_healthy_run_is_not_stopped(tmp_path, options):
    assert train_here(tmp_path / "run", options, stop_on="divergence")


def test_a_page_that_cannot_be_written_ends_nothing(tmp_path, options, monkeypatch, capsys):
    def fail(*args):
        raise PermissionError("no")

    monkeypatch.setattr("training.run.watch.write_run_page", fail)
    monkeypatch.setattr(SampleMeter, "measure", fail)
    assert train_here(tmp_path / "run", options)
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert warnings == [
        "Warning: measuring the samples failed (PermissionError: no); training goes on without",
        "Warning: writing report.html failed (PermissionError: no); training goes on without",
    ]


def test_the_best_snapshot_is_kept(tmp_path, options, monkeypatch, capsys):
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics), raising=False)
    values = iter([3.0, 1.0, 2.0, 1.5])

    @metric_main.register_metric
    def falls_and_rises(opts):
        return {"falls_and_rises": next(values)}

    assert train_here(tmp_path / "run", options, metrics=["falls_and_rises"], network_snapshot_ticks=1)
    best = json.loads((tmp_path / "run/best.json").read_text())
    assert best == {
        "snapshot": "network-snapshot-000000_028.pkl",
        "score": "falls_and_rises",
        "value": 1.0,
        "kimg": 0.028,
        "conditions": {"seed": 0},
    }
    assert (tmp_path / "run/network-snapshot-best.pkl").samefile(tmp_path / "run" / best["snapshot"])
    assert "Best snapshot so far: network-snapshot-000000_028.pkl" in capsys.readouterr().out


def test_a_continued_run_remembers(tmp_path, options, diverging, capsys):
    train_here(tmp_path / "run", options, abort_fn=lambda: True)
    assert "Warning" in capsys.readouterr().out
    assert train_here(tmp_path / "run", options)
    assert "Warning: training diverges" not in capsys.readouterr().out  # said before
