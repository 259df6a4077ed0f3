"""How a run begins: what prevents it, the unit of its steps, the pace that it tells after the first tick."""

from unittest import mock

import pytest

from dnnlib.errors import UserError
from tests.training_runs import BATCH, make_trainer, tiny_options, train_here, write_dataset
from training import training_loop


@pytest.fixture
def options(tmp_path):
    return {**tiny_options(write_dataset(tmp_path / "data.zip"), 1000), "image_snapshot_ticks": 50}


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (UserError("no images"), UserError, "^no images$"),
        (TypeError("no argument 'x'"), UserError, "^the settings cannot be used: TypeError: no argument 'x'$"),
        (ZeroDivisionError("by 0"), UserError, "^the settings cannot be used: ZeroDivisionError: by 0$"),
        (
            RuntimeError("unable to write to shared memory"),
            UserError,
            r"^there is too little shared memory \(/dev/shm\): unable to write to shared memory; enlarge it$",
        ),
        (RuntimeError("a bug"), RuntimeError, "^a bug$"),
    ],
)
def test_what_prevents_a_run_is_one_line_unless_it_is_a_bug(tmp_path, options, monkeypatch, error, kind, said):
    monkeypatch.setattr(training_loop, "Trainer", mock.Mock(side_effect=error))
    with pytest.raises(kind, match=said):
        train_here(tmp_path / "run", options)


def test_the_pace_counts_each_phase_as_often_as_it_runs(tmp_path, options, monkeypatch):
    """16 ms each: main phases in every iteration of 4 images, regularization in every fourth and sixteenth."""
    trainer, said = make_trainer(tmp_path / "run", {**options, "network_snapshot_ticks": 20}), []
    for phase in trainer.state.phases:
        monkeypatch.setattr(phase.stopwatch, "read_sec", lambda: 0.016)
    monkeypatch.setattr(trainer.console, "say", said.append)
    trainer.counters.cur_nimg = BATCH
    trainer._describe_pace()
    trainer.outputs.close()
    assert trainer._sec_per_kimg() == pytest.approx(0.016 * (1 + 1 / 4 + 1 + 1 / 16) / BATCH * 1000)
    ((line, _, _),) = [each.partition(". ") for each in said]
    assert line == "About 9.25 s per kimg: 9s for the 0.996 kimg left, 2s to the next samples and snapshot"


@pytest.mark.parametrize(
    ("changes", "steps_per_kimg"),
    [({"kimg_per_tick": 1}, 1), ({"kimg_per_tick": 0.5}, 1000), ({"kimg_per_tick": 4, "time_limit_sec": 60.0}, 1000)],
)
def test_short_ticks_have_steps_of_images(tmp_path, options, changes, steps_per_kimg):
    """Those of a run of a given time are planned, and may become short."""
    trainer = make_trainer(tmp_path / "run", {**options, **changes})
    trainer.outputs.close()
    assert trainer.counters.steps_per_kimg == steps_per_kimg
