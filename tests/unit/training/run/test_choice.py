import itertools
import types

import pytest
import torch

from training.run import choice
from training.run.choice import choose_for_cpu, describe_choice
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve

DATASET = DatasetInfo("cats", 32, 500, has_labels=False)
CPU = torch.device("cpu")


def choose(flags):
    """The flags that are chosen on a CPU, and the lines about them."""
    chosen = choose_for_cpu(flags, CPU)
    return chosen, describe_choice(flags, chosen, DATASET, CPU)


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch):
    monkeypatch.setattr(choice, "measure_operations_per_sec", lambda: 1e11)
    monkeypatch.setattr(choice, "rehearsed", lambda *args: type("Rehearsal", (), {"flops": 3.2e11}))


def test_without_a_gpu_and_a_choice_it_is_small():
    flags, lines = choose(Flags(data=""))
    assert (flags.small, flags.snap, flags.metrics) == (True, 5, ())
    # 3.2e11 operations for 32 images (or 16) at a quarter of 1e11 per second: 400 (800) s per kimg
    assert lines[1:] == [
        "  --cfg=auto:             about 115d 17h 46m for 25000 kimg",
        "  --cfg=auto --small:     about 1d 20h 26m for 200 kimg",
        "Chosen:     --small --snap=5 --metrics=none; --small=0 or --cfg=auto trains the full width",
    ]


@pytest.mark.parametrize("name", sorted(choice.CHOOSING))
def test_a_choice_of_the_user_stays(name):
    flags = Flags(data="", explicit=frozenset({name}))
    assert choose(flags) == (flags, [])


def test_a_gpu_trains_the_full_width():
    flags = Flags(data="")
    assert choose_for_cpu(flags, torch.device("cuda")) is flags


@pytest.mark.parametrize(("name", "snap"), [("snap", 50), ("tick", 50), ("kimg", 5)])
def test_snapshots_are_the_users_too(name, snap):
    flags, lines = choose(Flags(data="", explicit=frozenset({name})))
    assert flags.snap == snap
    assert ("--snap" in lines[-1]) == (snap == 5)


@pytest.mark.parametrize("name", sorted(choice.SCORING))
def test_scores_that_were_asked_for_stay(name):
    flags, lines = choose(Flags(data="", metrics=("a",), explicit=frozenset({name})))
    assert flags.metrics == ("a",)
    assert "--metrics" not in lines[-1]


def test_a_given_time():
    flags, lines = choose(Flags(data="", time=3600, explicit=frozenset({"time"})))
    assert lines[1] == "  --cfg=auto:             about 9 kimg in 1h 00m 00s"
    assert resolve(flags, DATASET)["network_snapshot_ticks"] == 5
    _flags, lines = choose(Flags(data="", time=3600e3, explicit=frozenset({"time"})))
    assert lines[1] == "  --cfg=auto:             about 9000 kimg in 41d 16h 00m"


def test_the_speed_of_a_machine_by_its_clock(monkeypatch):
    """Three products of 2 * 512^3 operations within the 0.2 seconds, looked at every sixteenth of a second."""
    monkeypatch.undo()
    clock = itertools.count(0, 1 / 16)
    monkeypatch.setattr(choice, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert choice.measure_operations_per_sec() == 3 * 2 * 512**3 / 0.25
