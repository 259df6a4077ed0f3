"""A run that is killed at any moment goes on as if nothing had happened."""

import random
import time

import pytest

import train
from tests.processes import forked
from tests.training_runs import (
    SMALL_GRIDS,
    assert_same_outcome,
    everything_random,
    new_run,
    states,
    ticks,
    tiny_options,
    train_here,
    write_dataset,
)
from training.checkpoint import find_newest_checkpoint
from training.run.options_file import write_options

NUM_KILLS = 30
NUM_KILLS_WHILE_SAVING = 10
LONGEST_SAVE_SEC = 0.02
STATES_IN_EVERY_TICK = 0


def run_train(run_dir):
    with SMALL_GRIDS:
        train.main(
            [f"--continue={run_dir}", "--device=cpu", "--progress=none", f"--state-minutes={STATES_IN_EVERY_TICK}"]
        )


def start(run_dir):
    process = forked(run_train, run_dir)
    process.start()
    return process


def start_server():
    """Let the fork server import what it has to, so that the lives below do not wait for it."""
    process = forked(time.sleep, 0)
    process.start()
    process.join()


def temporary_files(run_dir):
    """Those of our own and of the library of safetensors."""
    return set(run_dir.glob(".*tmp*"))


def wait_for_saving(run_dir, timeout_sec=60):
    """Until a state has begun to be written."""
    deadline = time.monotonic() + timeout_sec
    old = temporary_files(run_dir)  # a life before may have left them; the next one removes them
    while not temporary_files(run_dir) - old:
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def live_until_first_checkpoint(run_dir, timeout_sec=60):
    """Kill the run as soon as it has saved a checkpoint; returns how long that took on this machine."""
    begin_sec = time.monotonic()
    process = start(run_dir)
    while not states(run_dir):
        assert time.monotonic() < begin_sec + timeout_sec
        time.sleep(0.005)
    process.kill()
    process.join()
    return time.monotonic() - begin_sec


@pytest.mark.slow
def test_kill9_anytime(tmp_path):
    """The run is as long as the machine makes it in 41 lives; then an uninterrupted run of that length is compared."""
    options = tiny_options(write_dataset(tmp_path / "data.zip"), 10**9, **everything_random())
    run_dir = new_run(tmp_path / "killed", options)
    moments = random.Random(0)
    start_server()
    longest_life_sec = 2 * live_until_first_checkpoint(run_dir)
    for number in range(NUM_KILLS + NUM_KILLS_WHILE_SAVING):
        process = start(run_dir)
        if number < NUM_KILLS:
            time.sleep(moments.uniform(0, longest_life_sec))
        else:
            wait_for_saving(run_dir)
            time.sleep(moments.uniform(0, LONGEST_SAVE_SEC))
        process.kill()
        process.join()
        assert process.exitcode == -9
        _path, warnings = find_newest_checkpoint(run_dir)
        assert not warnings

    newest_nimg = int(states(run_dir)[-1].stem.split("-")[-1])
    options["total_kimg"] = (newest_nimg + 20) / 1000
    write_options(run_dir, options)
    process = start(run_dir)
    process.join()
    assert process.exitcode == 0
    train_here(tmp_path / "whole", options)
    assert_same_outcome(run_dir, tmp_path / "whole")
    assert len(ticks(run_dir)) > 3
    assert not temporary_files(run_dir)
