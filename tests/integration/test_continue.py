"""N + M iterations are N iterations, a saved state, a new process and M iterations, bit by bit."""

import pytest

from tests.training_runs import (
    assert_same_outcome,
    everything_random,
    states,
    tiny_options,
    train_there,
    write_dataset,
)

NUM_ITERATIONS = 21  # five more than the interval of R1
MID_TICK = 6  # ticks end after iterations 1, 4, 7, ...
TOTAL_NIMG = NUM_ITERATIONS * 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


CASES = {
    "everything": everything_random(),
    "workers": everything_random(workers=2),
    "plain": {"aug": "noaug"},
    "msconD": everything_random(cfg="msconD", settings={"scales": [1, 8], "con_ramp_kimg": 0.05}),
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", CASES.values(), ids=CASES.keys())
def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path, flags):
    options = tiny_options(data, TOTAL_NIMG, **flags)
    assert train_there(tmp_path / "whole", options) == 0
    assert train_there(tmp_path / "parts", options, stop_in_iteration=MID_TICK) == 75
    assert states(tmp_path / "parts")[-1].name == f"training-state-{MID_TICK * 4:09d}.safetensors"
    assert train_there(tmp_path / "parts", options, stop_in_iteration=MID_TICK) == 75
    assert train_there(tmp_path / "parts", options) == 0
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")
