import gc
import json
import math

import numpy as np
import pytest
import torch

from torch_utils import training_stats
from torch_utils.training_stats import Collector, report, report0


@pytest.fixture(autouse=True)
def _no_other_listeners(monkeypatch):
    monkeypatch.setattr(training_stats, "_collectors", type(training_stats._collectors)())


def test_moments_are_those_of_all_elements():
    values = [
        torch.randn(3, 4),
        np.array([1.0, 2.0]),
        [5, 6, 7],
        8.5,
        torch.tensor([True, False]),
        torch.randn(4).half(),
    ]
    collector = Collector()
    for value in values:
        assert report("x", value) is value
    collector.update()
    elements = np.concatenate([np.asarray(value, dtype=np.float64).ravel() for value in values])
    assert collector.num("x") == elements.size
    assert collector.mean("x") == collector["x"] == pytest.approx(elements.mean(), rel=1e-12)
    assert collector.std("x") == pytest.approx(elements.std(), rel=1e-12)
    assert collector.names() == ["x"]
    assert collector.as_dict() == {"x": {"num": elements.size, "mean": collector["x"], "std": collector.std("x")}}
    assert collector.as_dict().x.num == elements.size


def test_numbers_keep_their_64_bits():
    collector = Collector()
    report("x", 0.1)
    report("y", [1e6, 1e6 + 1])
    collector.update()
    assert collector["x"] == 0.1
    assert collector.std("y") == pytest.approx(0.5, rel=1e-3)


def test_a_round_begins_with_construction_and_with_every_update():
    report("x", 1)
    collector = Collector()
    report("x", 2)
    late = Collector()
    report("x", 4)
    assert math.isnan(collector["x"])  # nothing before the update
    collector.update()
    assert (collector.num("x"), collector["x"]) == (2, 3)
    report("x", 10)
    collector.update()
    late.update()
    assert (collector.num("x"), collector["x"]) == (1, 10)
    assert (late.num("x"), late["x"]) == (2, 7)


@pytest.mark.parametrize(("keep_previous", "num", "mean"), [(True, 1, 3), (False, 0, math.nan)])
def test_a_round_without_reports(keep_previous, num, mean):
    collector = Collector(keep_previous=keep_previous)
    report("x", 3)
    collector.update()
    collector.update()
    assert collector.names() == ["x"]
    assert collector.num("x") == num
    assert np.array_equal(collector["x"], mean, equal_nan=True)


def test_an_empty_report_makes_the_name_known():
    collector = Collector()
    assert report("x", []) == []
    report("y", torch.empty(0, 3))
    collector.update()
    assert collector.names() == ["x", "y"]
    assert collector.num("x") == collector.num("unknown") == 0
    assert math.isnan(collector["x"])
    assert math.isnan(collector.std("x"))
    assert math.isnan(collector["unknown"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_spoils_its_round_only(bad):
    collector = Collector()
    report("x", [1.0, bad])
    collector.update()
    assert collector.num("x") == 2
    assert not math.isfinite(collector["x"])
    assert math.isnan(collector.std("x"))
    report("x", [1.0, 3.0])
    collector.update()
    assert (collector["x"], collector.std("x")) == (2, 1)


def test_the_regex_is_for_whole_names():
    collector = Collector(regex="Loss/.*")
    for name in ("Loss/a", "Loss/b", "More/Loss/a", "Loss"):
        report(name, 1)
    collector.update()
    assert collector.names() == ["Loss/a", "Loss/b"]


def test_reports_keep_no_graph_and_no_inference_tensor():
    collector = Collector()
    x = torch.ones(3, requires_grad=True)
    assert report("x", x) is x
    with torch.inference_mode():
        report("y", torch.ones(2))
    report("y", torch.zeros(2))
    assert not any(each.sums.requires_grad for pending in collector._pending.values() for each in pending.values())
    collector.update()
    assert collector["y"] == 0.5


def test_a_collector_nobody_holds_costs_nothing():
    collector = Collector()
    assert len(training_stats._collectors) == 1
    del collector
    gc.collect()
    assert len(training_stats._collectors) == 0
    report("x", 1)


@pytest.mark.parametrize(("rank", "num"), [(0, 1), (1, 0)])
def test_report0_counts_rank_0(monkeypatch, rank, num):
    monkeypatch.setitem(training_stats._process, "rank", rank)
    collector = Collector()
    assert report0("x", 5) == 5
    collector.update()
    assert collector.names() == ["x"]
    assert collector.num("x") == num


def test_a_state_continues_bit_for_bit():
    """Also against a run that never took a state: sums must not depend on where a state was taken."""
    values = torch.randn(40, 3) * torch.logspace(-8, 8, 40)[:, None]
    straight, collector = Collector(), Collector()
    for step, value in enumerate(values):
        report("x", value)
        if step == 10:
            straight.update()
            collector.update()
        if step == 25:
            state = json.loads(json.dumps(collector.state_dict()))
            del collector
            collector = Collector()
            collector.load_state_dict(state)
            assert collector["x"] == straight["x"]
    straight.update()
    collector.update()
    assert collector.as_dict() == straight.as_dict()


def test_a_state_of_devices_that_are_gone_loads():
    collector = Collector()
    report("x", 6)
    state = collector.state_dict()
    state["pending"]["x"]["cuda:7"] = [3, 6.0, 12.0]
    collector.load_state_dict(state)
    collector.update()
    assert (collector.num("x"), collector["x"], collector.std("x")) == (4, 3, pytest.approx(3**0.5))


@pytest.mark.gpu
def test_reports_from_a_gpu_join_those_from_the_cpu():
    collector = Collector()
    report("x", torch.full([3], 2.0, device="cuda"))
    report("x", 6)
    state = collector.state_dict()
    collector.update()
    assert (collector.num("x"), collector["x"]) == (4, 3)
    collector.load_state_dict(state)
    collector.update()
    assert (collector.num("x"), collector["x"]) == (4, 3)
