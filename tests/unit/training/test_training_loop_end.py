"""How a run ends: in time, stopped between two snapshots with pictures either way, or killed in its last metrics."""

import errno
import itertools
import json

import pytest
import torch

from dnnlib.errors import UserError
from metrics import metric_main
from tests.training_runs import (
    BATCH,
    assert_same_outcome,
    make_trainer,
    newest_state,
    tiny_options,
    train_here,
    write_dataset,
)
from training import training_loop
from training.batches import Batches
from training.checkpoint_names import checkpoint_name, list_checkpoints
from training.data.codec import BadImageError
from training.dataset import ImageFolderDataset
from training.ema import update_ema
from training.run import length, outputs
from training.run.evaluation import Evaluation
from training.run.status import STATUS_FILE, read_status
from training.run.time_plan import UNLIMITED_KIMG

TICK = 3 * BATCH


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


@pytest.fixture
def options(data):
    return {**tiny_options(data, 1000), "image_snapshot_ticks": 50, "network_snapshot_ticks": 50}


def pictures(run_dir):
    return sorted(path.name for path in run_dir.iterdir() if path.name.startswith(("fakes0", "network-")))


def test_a_stop_leaves_samples_and_a_snapshot(tmp_path, options):
    answers = itertools.chain([False], itertools.repeat(True))  # after tick 0 it goes on, after tick 1 it stops
    assert not train_here(tmp_path / "run", options, abort_fn=lambda: next(answers))
    stopped_at = BATCH + TICK
    status = read_status(tmp_path / "run")
    assert (status["reason"], status["kimg"]) == ("stopped", stopped_at / 1000)
    first = ["fakes000000.png", "network-snapshot-000000.pkl"]
    last = [f"fakes000000_{stopped_at:03d}.png", f"network-snapshot-000000_{stopped_at:03d}.pkl"]
    assert pictures(tmp_path / "run") == sorted([*first, *last])


def test_what_a_stop_leaves_is_not_written_over_later(tmp_path, options):
    """A tick may end with as many thousands of images as the run had seen when it was stopped."""
    trainer = make_trainer(tmp_path / "run", {**options, "total_kimg": 9})
    trainer.counters.cur_nimg = 2016
    trainer._save_last_outputs()
    trainer.outputs.close()
    assert pictures(tmp_path / "run") == ["fakes000002_016.png", "network-snapshot-000002_016.pkl"]
    trainer.counters.cur_nimg = 2560
    assert trainer._needs_exact_names()  # without it the older snapshot would seem newer
    trainer.counters.cur_nimg = 3000
    assert not trainer._needs_exact_names()


def test_a_stop_at_a_snapshot_leaves_no_second_one(tmp_path, options):
    assert not train_here(tmp_path / "run", options, abort_fn=lambda: True)
    assert pictures(tmp_path / "run") == ["fakes000000.png", "network-snapshot-000000.pkl"]


def test_a_run_without_pictures_stops_without(tmp_path, options):
    options.update(image_snapshot_ticks=None, network_snapshot_ticks=None)
    assert not train_here(tmp_path / "run", options, abort_fn=lambda: True)
    assert pictures(tmp_path / "run") == []


class Clock:
    """Time goes on by a second per iteration: `RunLength` asks once at the beginning and after each."""

    def __init__(self, monkeypatch):
        self.seconds = 0.0
        look = length.RunLength.check_time_limit

        def look_at_own(run_length, elapsed_sec):
            look(run_length, self.seconds)
            self.seconds += 1

        monkeypatch.setattr(length.RunLength, "check_time_limit", look_at_own)


def test_a_run_ends_when_its_time_is_over_and_can_go_on(tmp_path, options, monkeypatch):
    Clock(monkeypatch)
    assert train_here(tmp_path / "run", options, time_limit_sec=7.0)
    status = read_status(tmp_path / "run")
    assert (status["reason"], status["kimg"]) == ("finished", 7 * BATCH / 1000)
    assert f"network-snapshot-000000_{7 * BATCH:03d}.pkl" in pictures(tmp_path / "run")
    assert train_here(tmp_path / "run", options, time_limit_sec=10.0)  # the clock goes on from 8
    assert read_status(tmp_path / "run")["kimg"] == 9 * BATCH / 1000


def test_images_that_cannot_be_read_any_more_cost_no_training(tmp_path, options, monkeypatch):
    """Whole runs of two copies of the images: one of them disappears in the middle of a tick."""
    expected_dir, run_dir = tmp_path / "expected", tmp_path / "run"
    options.update(total_kimg=7 * BATCH / 1000, state_interval_sec=1e9)
    assert train_here(expected_dir, options)
    iterations, next_inputs = itertools.count(1), Batches.next

    def lose_images(*_args):
        raise BadImageError("it is gone")

    def next_until_lost(batches, num_phases):
        if next(iterations) == 6:
            monkeypatch.setattr(ImageFolderDataset, "_load_raw_image", lose_images)
        return next_inputs(batches, num_phases)

    monkeypatch.setattr(Batches, "next", next_until_lost)
    with pytest.raises(UserError, match="it is gone"):
        train_here(run_dir, options)
    monkeypatch.undo()
    assert list_checkpoints(run_dir)[-1].name == checkpoint_name(5 * BATCH)
    assert train_here(run_dir, options)
    assert_same_outcome(run_dir, expected_dir)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("there is no memory"), "there is no memory"),
        (RuntimeError("CUDA error\nMore"), "RuntimeError: CUDA error"),
    ],
)
def test_a_run_that_an_error_ends_says_so(tmp_path, options, monkeypatch, error, said):
    run_dir, iterations = tmp_path / "run", itertools.count(1)

    def fail_later(*args):
        if next(iterations) == 3:
            raise error
        update_ema(*args)

    monkeypatch.setattr(training_loop, "update_ema", fail_later)
    with pytest.raises(type(error), match=str(error)):
        train_here(run_dir, options)
    status = read_status(run_dir)
    assert (status["reason"], status["error"], status["kimg"]) == ("failed", said, 2 * BATCH / 1000)
    page = (run_dir / "report.html").read_text()
    assert "<dd>ended by an error</dd>" in page
    assert f"<dd>{said}</dd>" in page
    monkeypatch.undo()
    assert train_here(run_dir, {**options, "total_kimg": 4 * BATCH / 1000})
    assert read_status(run_dir)["reason"] == "finished"
    assert said not in (run_dir / "report.html").read_text()


def test_the_status_of_a_run_of_a_given_time_tells_the_length_that_is_planned(tmp_path, options, monkeypatch):
    Clock(monkeypatch)
    written = []
    monkeypatch.setattr(outputs, "write_status", lambda run_dir, *args, **signs: written.append(args))
    options = {**options, "total_kimg": UNLIMITED_KIMG, "image_snapshot_ticks": 1}
    assert train_here(tmp_path / "run", options, time_limit_sec=7.0)
    assert written[0] == ("running", 0.0, UNLIMITED_KIMG)
    assert written[1][0] == "running"
    assert written[1][1] == BATCH / 1000
    assert written[1][2] < UNLIMITED_KIMG


@pytest.mark.slow
def test_time_does_not_matter_for_the_weights(tmp_path, options, monkeypatch):
    Clock(monkeypatch)
    train_here(tmp_path / "time", options, time_limit_sec=7.0)
    train_here(tmp_path / "kimg", {**options, "total_kimg": 7 * BATCH / 1000})
    in_time, in_images = (newest_state(tmp_path / name) for name in ("time", "kimg"))
    assert in_time.keys() == in_images.keys()
    weights = [name for name in in_time if name.startswith(("/modules", "/optimizers"))]
    assert weights
    assert all(torch.equal(in_time[name], in_images[name]) for name in weights)


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing is written any more."""


def register_metrics(monkeypatch, kills):
    """Register two metrics, of which the second kills the run a few times; returns what is computed."""
    monkeypatch.setattr(metric_main, "_metrics", dict(metric_main._metrics))
    names = []

    @metric_main.register_metric
    def first(opts):
        names.append("first")
        return {"first": 1.0}

    @metric_main.register_metric
    def second(opts):
        names.append("second")
        if names.count("second") <= kills:
            raise Killed
        return {"second": 2.0}

    return names


def results(run_dir, metric):
    lines = (run_dir / f"metric-{metric}.jsonl").read_text().splitlines()
    return [(line["snapshot_pkl"], line["results"]) for line in map(json.loads, lines)]


def test_metrics_in_which_a_run_was_killed_are_finished_by_the_next_part(tmp_path, options, monkeypatch, capsys):
    computed = register_metrics(monkeypatch, kills=1)
    options = {**options, "total_kimg": 2 * TICK / 1000, "metrics": ["first", "second"]}
    with pytest.raises(Killed):
        train_here(tmp_path / "run", options)
    snapshot = max(path.name for path in (tmp_path / "run").glob("network-snapshot-*.pkl"))
    assert train_here(tmp_path / "run", options, progress="plain")
    assert f"Scoring {snapshot}, which has no results of second; --metrics=none skips that" in capsys.readouterr().out
    assert computed == ["first", "second", "second"]
    assert results(tmp_path / "run", "first") == [(snapshot, {"first": 1.0})]
    assert results(tmp_path / "run", "second") == [(snapshot, {"second": 2.0})]
    assert train_here(tmp_path / "run", {**options, "total_kimg": 3 * TICK / 1000}, progress="plain")
    assert computed == ["first", "second", "second", "first", "second"]
    assert "Scoring" not in capsys.readouterr().out


def test_metrics_that_kill_a_run_twice_are_skipped(tmp_path, options, monkeypatch):
    computed = register_metrics(monkeypatch, kills=2)
    options = {**options, "total_kimg": 2 * TICK / 1000, "metrics": ["first", "second"]}
    written = []
    for _session in range(2):
        with pytest.raises(Killed):
            train_here(tmp_path / "run", options)
        written.append(list_checkpoints(tmp_path / "run")[-1].stat().st_mtime_ns)
    assert written[0] == written[1]  # it could be lost while it is written again
    assert train_here(tmp_path / "run", options)
    assert computed == ["first", "second", "second"]


def test_metrics_that_kill_another_process_in_the_next_part_are_skipped(tmp_path, options, monkeypatch):
    """The main process then ends by an error."""
    computed = register_metrics(monkeypatch, kills=1)
    options = {**options, "total_kimg": 2 * TICK / 1000, "metrics": ["first", "second"]}

    def lose_peer(*_args, **_kwargs):
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(Killed):
        train_here(tmp_path / "run", options)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "run", lose_peer)
        with pytest.raises(RuntimeError, match="closed by peer"):
            train_here(tmp_path / "run", options)
    assert train_here(tmp_path / "run", options)
    assert computed == ["first", "second"]


def test_the_next_part_leaves_out_interrupted_metrics_if_asked(tmp_path, options, monkeypatch):
    computed = register_metrics(monkeypatch, kills=1)
    options = {**options, "total_kimg": 2 * TICK / 1000}
    with pytest.raises(Killed):
        train_here(tmp_path / "run", options, metrics=["first", "second"])
    assert train_here(tmp_path / "run", options, metrics=[])
    assert computed == ["first", "second"]


def test_a_run_whose_metrics_were_finished_is_not_scored_again(tmp_path, options, monkeypatch, capsys):
    computed = register_metrics(monkeypatch, kills=0)
    options = {**options, "metrics": ["first", "second"], "progress": "plain"}
    assert train_here(tmp_path / "run", {**options, "total_kimg": 2 * TICK / 1000})
    assert train_here(tmp_path / "run", {**options, "total_kimg": 3 * TICK / 1000})
    assert computed == ["first", "second"] * 2
    assert "Scoring" not in capsys.readouterr().out


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_last_snapshot_that_found_no_space_is_written_by_the_next_part(tmp_path, options, monkeypatch):
    options["total_kimg"] = TICK / 1000
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "save_snapshot", no_space)
        with pytest.raises(UserError, match=r"training has ended without the network snapshot: .*No space left"):
            train_here(tmp_path / "run", options)
    names = ["fakes000000.png", f"fakes000000_{TICK:03d}.png"]
    assert pictures(tmp_path / "run") == names
    assert train_here(tmp_path / "run", options)
    assert read_status(tmp_path / "run")["reason"] == "finished"
    assert pictures(tmp_path / "run") == [*names, f"network-snapshot-000000_{TICK:03d}.pkl"]


def test_a_snapshot_that_found_no_space_is_not_written_with_later_weights(tmp_path, options, monkeypatch):
    options["total_kimg"] = TICK / 1000
    trainer = make_trainer(tmp_path / "run", options)
    monkeypatch.setattr(outputs, "save_snapshot", no_space)
    trainer.counters.cur_nimg = trainer.counters.last_snapshot_nimg = 8
    trainer._save_snapshot("network-snapshot-000000_008.pkl")
    assert trainer.counters.unsaved_snapshot == "network-snapshot-000000_008.pkl"
    monkeypatch.undo()
    trainer.counters.cur_nimg = 12
    trainer._save_missed_snapshot()
    assert pictures(tmp_path / "run") == []
    trainer.counters.cur_nimg = 8
    trainer._save_missed_snapshot()
    assert pictures(tmp_path / "run") == ["network-snapshot-000000_008.pkl"]
    assert trainer.counters.unsaved_snapshot == ""
    trainer.outputs.close()


def test_an_end_that_cannot_be_recorded_is_an_error(tmp_path, options):
    """Else the exit status, which is read off the record, would ask job managers for another part, again and again."""
    options["total_kimg"] = TICK / 1000
    (tmp_path / "run" / STATUS_FILE).mkdir(parents=True)
    with pytest.raises(UserError, match="training is complete, but this could not be recorded; the status: "):
        train_here(tmp_path / "run", options)
    (tmp_path / "run" / STATUS_FILE).rmdir()
    assert train_here(tmp_path / "run", options)
    assert read_status(tmp_path / "run")["reason"] == "finished"
