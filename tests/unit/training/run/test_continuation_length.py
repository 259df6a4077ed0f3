"""The length of a run that is continued: one that is reached already is refused, with the way to train on."""

import pytest

from dnnlib.errors import UserError
from tests.fake_run import stats_line
from tests.unit.training.run.launch_requests import continued, request
from training.run.launch import prepare_run
from training.run.options_file import read_options
from training.run.status import write_status


def test_a_longer_time_does_not_lengthen_what_has_reached_its_length(tmp_path, data, capsys):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "kimg": 12})).run_dir
    write_status(run_dir, "finished", 12, 12)
    assert not continued(run_dir, given={"time": 7200.0}).has_work
    assert f"To train it further: python train.py --continue={run_dir} --kimg=26 --time=2h" in capsys.readouterr().out


def test_a_run_of_a_given_time_that_is_over(tmp_path, data, capsys):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "time": 3600.0})).run_dir
    assert run_dir.name == "00000-cats-auto1-1h"
    write_status(run_dir, "finished", 12, 12)
    (run_dir / "training-state-000012000.safetensors").touch()
    assert not continued(run_dir).has_work
    assert f"is finished: 12 kimg in 1h. To train it further: python train.py --continue={run_dir} --time=2h" in (
        capsys.readouterr().out
    )
    for given in ({"kimg": 50}, {"time": 1800.0}):  # the time has been spent
        assert not continued(run_dir, given=given).has_work
        assert f"--continue={run_dir} --time=2h" in capsys.readouterr().out
        assert read_options(run_dir)["time_limit_sec"] == 3600
    assert continued(run_dir, given={"time": 7200.0}).kwargs["time_limit_sec"] == 7200


@pytest.mark.parametrize("given", [{}, {"time": 7200.0}])
def test_a_run_of_a_given_time_plans_its_ticks(tmp_path, data, capsys, given):
    plan = prepare_run(request(tmp_path, {"data": str(data), "time": 3600.0}))
    kwargs = continued(plan.run_dir, given={"tick": 0.5, **given}).kwargs
    assert kwargs["kimg_per_tick"] == plan.kwargs["kimg_per_tick"] != 0.5
    assert "Warning: no effect on a run that is continued: --tick" in capsys.readouterr().out


def test_a_finished_run(run_dir, capsys):
    write_status(run_dir, "finished", 25000, 25000)
    (run_dir / "training-state-025000000.safetensors").touch()
    assert not continued(run_dir).has_work
    assert capsys.readouterr().out.endswith(f"To train it further: python train.py --continue={run_dir} --kimg=50002\n")
    assert continued(run_dir, given={"kimg": 30000}).has_work


def test_a_length_that_is_reached_already(run_dir):
    write_status(run_dir, "stopped", 3.5, 25000)
    (run_dir / "training-state-000003500.safetensors").touch()
    assert continued(run_dir, given={"kimg": 4}).has_work
    with pytest.raises(UserError, match=r"has done 3\.5 kimg, no less than its new length of 3: give a larger --kimg$"):
        continued(run_dir, given={"kimg": 3})


def test_a_time_that_is_spent_already(run_dir):
    write_status(run_dir, "stopped", 3.5, 25000)
    (run_dir / "training-state-000003500.safetensors").touch()
    (run_dir / "stats.jsonl").write_text(stats_line({"Progress/kimg": 3.5, "Timing/total_sec": 3599.5}))
    with pytest.raises(UserError, match=r"has trained for 1h, no less than its new time of 30m: give a larger --time$"):
        continued(run_dir, given={"time": 1800.0})
    assert "time_limit_sec" not in read_options(run_dir)
    assert continued(run_dir, given={"time": 7200.0}).has_work


def test_a_run_that_was_killed_when_its_time_was_over_goes_on_to_its_end(tmp_path, data):
    run_dir = prepare_run(request(tmp_path, {"data": str(data), "time": 60.0})).run_dir
    write_status(run_dir, "running", 3.5, 25000)
    (run_dir / "training-state-000003500.safetensors").touch()
    (run_dir / "stats.jsonl").write_text(stats_line({"Progress/kimg": 3.5, "Timing/total_sec": 61}))
    for given in ({}, {"time": 60.0}):
        assert continued(run_dir, given=given).has_work


@pytest.mark.parametrize(("nimg", "is_accepted"), [(3008, True), (3036, False)])
def test_a_length_that_a_killed_run_has_passed(run_dir, nimg, is_accepted):
    """A run that was killed when it was as good as done goes on to its end: it has a snapshot to write."""
    write_status(run_dir, "running", 1.0, 25000)
    (run_dir / f"training-state-{nimg:09d}.safetensors").touch()
    if is_accepted:
        assert continued(run_dir, given={"kimg": 3}).has_work
        return
    with pytest.raises(
        UserError, match=r"has done 3\.036 kimg, no less than its new length of 3: give a larger --kimg$"
    ):
        continued(run_dir, given={"kimg": 3})
