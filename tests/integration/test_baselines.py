"""Every method and combination trains, is saved and goes on bit by bit, also with two processes."""

import pytest

from tests.training_runs import (
    assert_same_outcome,
    states,
    tiny_options,
    train_there,
    write_dataset,
)

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


SLOW_COMBINATIONS = {
    "projected": {"cfg": "projected", "batch": 2, "batch_gpu": 1},
    "projected with additions": {"cfg": "projected-fastgan", "batch": 2, "settings": {"lecam": 0.3, "apa": True}},
}
"""Their feature network takes images of 224 px."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip")


def check_continuation(data, folder, flags, num_iterations, stopped_in):
    batch = flags.get("batch", BATCH)
    options = tiny_options(data, num_iterations * batch, **flags)
    assert train_there(folder / "whole", options) == 0
    assert train_there(folder / "parts", options, stop_in_iteration=stopped_in) == 75
    assert states(folder / "parts")[-1].stem.endswith(f"{stopped_in * batch:09d}")
    assert train_there(folder / "parts", options) == 0
    assert_same_outcome(folder / "parts", folder / "whole")


@pytest.mark.parametrize("flags", COMBINATIONS.values(), ids=COMBINATIONS)
def test_a_stopped_run_goes_on_bit_by_bit(data, tmp_path, flags):
    check_continuation(data, tmp_path, flags, num_iterations=7, stopped_in=4)


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("flags", SLOW_COMBINATIONS.values(), ids=SLOW_COMBINATIONS)
def test_a_stopped_slow_run_goes_on_bit_by_bit(data, tmp_path, flags):
    check_continuation(data, tmp_path, flags, num_iterations=3, stopped_in=2)
