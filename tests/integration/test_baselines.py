"""Every method and combination trains, is saved and goes on bit by bit, also with two processes."""

import pytest

from tests.training_runs import (
    assert_same_outcome,
    states,
    tiny_options,
    train_there,
    write_dataset,
)

NUM_ITERATIONS = 7
STOPPED_IN = 4
BATCH = 4

COMBINATIONS = {
    "diffaug": {"aug": "diffaug"},
    "lecam": {"settings": {"lecam": 0.1}},
    "apa": {"settings": {"apa": True, "apa_kimg": 0.02}},
    "relativistic": {"settings": {"loss": "relativistic"}},
    "san": {"aug": "noaug", "settings": {"san": True}},
    "insgen": {"cfg": "insgen", "batch_gpu": 2},
    "insgen with all": {"cfg": "insgen", "settings": {"lecam": 0.1, "apa": True, "loss": "relativistic", "san": True}},
    "all of them": {"batch_gpu": 2, "settings": {"lecam": 0.1, "apa": True, "loss": "relativistic", "san": True}},
    "msconD with all": {
        "cfg": "msconD",
        "settings": {
            "scales": [1, 8],
            "lecam": 0.1,
            "apa": True,
            "apa_kimg": 0.02,
            "loss": "relativistic",
            "san": True,
        },
    },
    "msconD with additions": {
        "cfg": "msconD",
        "aug": "diffaug",
        "settings": {"scales": [1, 8], "lecam": 0.1, "apa": True, "apa_kimg": 0.02, "san": True},
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


@pytest.mark.parametrize("flags", COMBINATIONS.values(), ids=COMBINATIONS)
def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path, flags):
    options = tiny_options(data, NUM_ITERATIONS * BATCH, **flags)
    assert train_there(tmp_path / "whole", options) == 0
    assert train_there(tmp_path / "parts", options, stop_in_iteration=STOPPED_IN) == 75
    assert states(tmp_path / "parts")[-1].stem.endswith(f"{STOPPED_IN * BATCH:09d}")
    assert train_there(tmp_path / "parts", options) == 0
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")
