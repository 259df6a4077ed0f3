"""Every part of the GPU benchmark runs on a CPU at tiny sizes; what fails in one process does not stop the others."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu
from benchmarks.gpu import Part, all_parts, run_part
from benchmarks.gpu_operations import Setup
from benchmarks.gpu_report import report
from tests import processes

QUICK = Setup(torch.device("cpu"), is_quick=True)


@pytest.fixture(autouse=True)
def _common_server(monkeypatch):
    monkeypatch.setattr(gpu, "PRELOADED", [processes.PRELOADED])  # the server of other tests must not be a worse one


def measure(part):
    return part.measure(QUICK, **part.arguments)


OPERATIONS = [part for part in all_parts(QUICK) if part.measure is gpu.measure_operation]
TRAINING = [part for part in all_parts(QUICK) if part.measure is gpu.measure_training]


def part_named(name):
    return next(part for part in all_parts(QUICK) if part.name == name)


@pytest.mark.parametrize("part", OPERATIONS, ids=lambda part: part.name)
def test_operations(part):
    tolerance = {"fp32": 1e-6, "fp16": 2e-3, "bf16": 1.6e-2}[part.arguments["dtype"]]
    for figures in measure(part).values():
        assert figures["error"] <= tolerance
        assert figures["sec"] > 0
        assert figures["launches"] >= 1
        assert figures["gb_per_sec"] > 0


@pytest.mark.parametrize("part", TRAINING, ids=lambda part: part.name)
def test_training(part):
    figures = measure(part)
    weights = {"Gmain": 1, "Greg": 1 / 4, "Dmain": 1, "Dreg": 1 / 16}
    iteration_sec = sum(figures["phase_sec"][name] * weight for name, weight in weights.items())
    assert figures["sec_per_kimg"] == pytest.approx(iteration_sec / part.arguments["batch_gpu"] * 1000)


@pytest.mark.slow
def test_ratio():
    figures = measure(part_named("ratio"))
    assert figures["ratio"] == pytest.approx(figures["msconD_sec"] / figures["stylegan2_sec"])


def test_machine_and_ceilings():
    assert measure(part_named("machine"))["torch"] == torch.__version__
    assert all(figure > 0 for figure in measure(part_named("ceilings")).values())


@pytest.mark.slow
def test_launches():
    phases = measure(part_named("launches paper256"))
    assert list(phases) == ["Gmain", "Greg", "Dmain", "Dreg"]
    assert all(figures["counted"] > figures["profiled"] == 0 for figures in phases.values())  # there is no GPU


def test_a_gpu_gets_all_sizes():
    names = {part.name for part in all_parts(Setup(torch.device("cuda"), is_quick=False))}
    assert {
        f"training {cfg} {batch}" for cfg in ("auto", "paper256", "stylegan2", "msconD") for batch in (8, 16, 64)
    } < names
    assert {
        f"{name} fp16 {layout}" for name in ("bias_act", "upsample", "epilogue") for layout in ("NCHW", "NHWC")
    } < names


def succeed(setup, value):
    return {"value": value, "device": str(setup.device)}


def fail(setup):
    raise RuntimeError("CUDA error: an illegal memory access\nand more lines")


def crash(setup):
    os._exit(9)


HANG_SEC = 300


def hang(setup):
    time.sleep(HANG_SEC)


PARTS = [
    Part("crash", crash, {}),
    Part("fail", fail, {}),
    Part("succeed", succeed, {"value": 3}),
]


@pytest.mark.slow
def test_failures_do_not_stop_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "all_parts", lambda setup: PARTS)
    path = tmp_path / "gpu.json"
    result = CliRunner().invoke(gpu.main, ["--device=cpu", "--quick", f"--out={path}"])
    assert result.exit_code == 0, result.output
    outcomes = json.loads(path.read_text())
    assert outcomes["crash"]["error"] == "its process ended with exit code 9"
    assert outcomes["fail"]["error"] == "RuntimeError: CUDA error: an illegal memory access"
    assert "in fail" in outcomes["fail"]["traceback"]
    assert outcomes["succeed"]["result"] == {"value": 3, "device": "cpu"}
    assert "[3/3] succeed: ok" in result.output
    assert "FAILED crash: its process ended" in result.output


def test_a_part_that_hangs_is_stopped():
    begin = time.monotonic()
    assert run_part(Part("hang", hang, {}), QUICK, limit_sec=1)["error"] == "took more than 1 s"
    assert time.monotonic() - begin < HANG_SEC


def test_results_are_on_disk_after_each_part(tmp_path, monkeypatch):
    path = tmp_path / "gpu.json"
    seen = []

    def record(part, setup, limit_sec):
        seen.append(json.loads(path.read_text()) if path.exists() else {})
        return {"result": {}, "sec": 0}

    monkeypatch.setattr(gpu, "all_parts", lambda setup: PARTS)
    monkeypatch.setattr(gpu, "run_part", record)
    CliRunner().invoke(gpu.main, ["--device=cpu", f"--out={path}"], catch_exceptions=False)
    assert [list(each) for each in seen] == [[], ["crash"], ["crash", "fail"]]


def test_no_part_starts_after_the_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "all_parts", lambda setup: PARTS)
    path = tmp_path / "gpu.json"
    CliRunner().invoke(gpu.main, ["--device=cpu", "--minutes=0", f"--out={path}"], catch_exceptions=False)
    outcomes = json.loads(path.read_text())
    assert {outcome["error"] for outcome in outcomes.values()} == {"left out after 0 minutes"}


def test_a_part_in_its_process():
    outcome = run_part(part_named("modulate fp32 NCHW"), QUICK, limit_sec=60)
    assert outcome["result"]["forward"]["launches"] == 1


def test_report_of_complete_and_of_partial_results():
    figures = {"sec": 0.001, "gb_per_sec": 500.0, "launches": 1, "error": 1e-4}
    outcomes = {
        "ceilings": {"result": {"copy_gb_per_sec": 1000.0}},
        "filter fp16 NHWC": {"result": {"forward": figures, "backward": figures}},
        "launches paper256": {"result": {"Gmain": {"profiled": 1100, "counted": 1000.0}}},
        "training auto 8": {"result": {"phase_sec": {}, "sec_per_kimg": 12.34, "peak_gib": 5.6}},
        "training msconD 8": {"error": "OutOfMemoryError: CUDA out of memory"},
    }
    lines = report(outcomes).splitlines()
    assert "filter fp16 NHWC forward                1.000      500        50%         1   1.0e-04" in lines
    assert "auto 8                          12.34      5.60" in lines
    assert any(line.split() == ["paper256", "Gmain", "1100", "1000"] for line in lines)
    assert lines[-1] == "FAILED training msconD 8: OutOfMemoryError: CUDA out of memory"
    del outcomes["ceilings"]
    assert "nan%" in report(outcomes)
