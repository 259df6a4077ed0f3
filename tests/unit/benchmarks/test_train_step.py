"""The benchmark of an iteration on the smallest networks."""

from __future__ import annotations

import json

import pytest
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
@pytest.mark.parametrize("cfg", ["stylegan2", pytest.param("msconD", marks=pytest.mark.slow)])
def test_one_line_of_json(cfg):
    arguments = ["--res=32", "--cbase=64", "--batch=4", "--repeats=1", f"--cfg={cfg}"]
    result = json.loads(CliRunner().invoke(train_step.main, arguments, catch_exceptions=False).stdout)
    assert set(result["phase_sec"]) == set(result["floor_phase_sec"]) == PHASES
    seconds = train_step.iteration_sec(result["phase_sec"])
    assert result["iteration_sec"] == pytest.approx(seconds, abs=1e-3)
    assert result["step_per_floor"] == pytest.approx(result["iteration_sec"] / result["floor_sec"], rel=0.05)
    assert ("step_per_stylegan2" in result) == (cfg != "stylegan2")
