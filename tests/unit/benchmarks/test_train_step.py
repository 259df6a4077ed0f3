"""The benchmark of an iteration on the smallest networks."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import train_step

PHASES = {"Gmain", "Greg", "Dmain", "Dreg"}


@pytest.fixture
def settings(monkeypatch):
    """Neither the threads nor the allocator of the tests are changed."""
    monkeypatch.setattr(train_step.torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(train_step, "keep_freed_memory", lambda: None)


def test_the_work_pays_what_training_pays():
    iteration = train_step.make_iteration(["--cfg=stylegan2", "--cbase=64", "--batch=4"], 8)
    assert set(train_step.make_work(iteration)) == PHASES | {train_step.AROUND}
    phases = {phase.name: phase for phase in iteration.phases}
    assert set(phases) == PHASES
    G, D = phases["Gmain"].module, phases["Dmain"].module
    assert G.synthesis.b8.conv1.conv_clamp == D.b8.conv0.conv_clamp == 256


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    "flags",
    [
        [],
        pytest.param(["--cfg=msconD"], marks=pytest.mark.slow),
        pytest.param(["--small", "--cpu-time", "--cfg=insgen", "--lecam=0.1", "--apa=1"], marks=pytest.mark.slow),
        pytest.param(["--loss=relativistic"], marks=pytest.mark.slow),
    ],
)
def test_one_line_of_json(flags):
    arguments = ["--res=32", "--cbase=64", "--batch=4", "--repeats=1", *flags]
    result = json.loads(CliRunner().invoke(train_step.main, arguments, catch_exceptions=False).stdout)
    interval_of = {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16, train_step.AROUND: 1}
    if "--loss=relativistic" in flags:
        interval_of = {"Gmain": 1, "Greg": 4, "Dboth": 1, train_step.AROUND: 1}
    assert result["phase_sec"].keys() == result["floor_phase_sec"].keys() == interval_of.keys()
    seconds = sum(result["phase_sec"][name] / interval for name, interval in interval_of.items())
    assert result["iteration_sec"] == pytest.approx(seconds, abs=1e-3)
    assert result["step_per_floor"] == pytest.approx(result["iteration_sec"] / result["floor_sec"], rel=0.05)
    assert ("step_per_stylegan2" in result) == bool(flags)


def test_the_benchmark_trains_what_training_trains():
    """Extensions take part, and the optimizer of D has InsGen's heads, too."""
    flags = ["--small", "--cfg=insgen", "--batch=4", "--lecam=0.1", "--rqs=8"]
    iteration = train_step.make_iteration(flags, 8)
    lecam, head = iteration.participants[1], iteration.loss.head_of["DHead"].online
    before = head[0].weight.clone()
    for work in train_step.make_work(iteration).values():
        work()
    assert lecam.state_dict().keys() == {"real_h1", "fake_h1"}
    assert not torch.equal(head[0].weight, before)
