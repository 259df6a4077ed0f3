"""N + M iterations are N iterations, a saved state, a new process and M iterations, bit by bit."""

import pytest

from tests.training_runs import assert_same_outcome, everything_random, states, tiny_options, train_there, write_dataset

NUM_ITERATIONS = 10
REG_INTERVAL = 4  # of R1 too, so that it is there before, between and after the stops
MID_TICK = 3  # ticks end after iterations 1, 4, 7, ...
TOTAL_NIMG = NUM_ITERATIONS * 4

CASES = {
    "everything": everything_random(),
    "workers": everything_random(workers=2),
    "plain": {"aug": "noaug"},
    "bfloat16": everything_random(precision="bf16"),
    "msconD": everything_random(cfg="msconD", settings={"scales": [1, 8], "con_ramp_kimg": 0.05}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(flags, id=case, marks=[] if case == "everything" else pytest.mark.slow)
        for case, flags in CASES.items()
    ],
)
def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path, flags):
    """It is stopped by SIGTERM in the middle of a tick, twice."""
    options = tiny_options(data, TOTAL_NIMG, **flags) | {"D_reg_interval": REG_INTERVAL}
    assert train_there(tmp_path / "whole", options) == 0
    for num_stops in (1, 2):
        assert train_there(tmp_path / "parts", options, stop_in_iteration=MID_TICK) == 75
        assert states(tmp_path / "parts")[-1].stem == f"training-state-{num_stops * MID_TICK * 4:09d}"
    assert train_there(tmp_path / "parts", options) == 0
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")
