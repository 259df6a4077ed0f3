"""The count of an iteration holds its ceilings, and no phase lets the host wait."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks import gpu_cost
from benchmarks.gpu_cost import main, operator_class, trace
from benchmarks.iteration import parse_flags
from benchmarks.meter import Call

TINY = ("--cfg=paper256", "--cbase=64", "--map-depth=2", "--batch-gpu=8", "--mbstd-group=4", "--aug=noaug")


@pytest.fixture(scope="module")
def tiny():
    return trace(parse_flags(TINY), 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cfg", "batch_gpu", "max_gigabytes", "max_launches"),
    [
        ("paper256", 64, 210, 3900),
        pytest.param("paper256", 8, 35, 2500, marks=pytest.mark.slow),
        pytest.param("msconD", 16, 145, 6100, marks=pytest.mark.slow),
    ],
)
def test_ceilings(cfg, batch_gpu, max_gigabytes, max_launches):
    traced = trace(parse_flags([f"--cfg={cfg}", f"--batch-gpu={batch_gpu}"]), resolution=256)
    total = traced.total
    assert total.gigabytes <= max_gigabytes
    assert total.launches <= max_launches
    assert traced.waits == []


def test_phases_are_weighted_by_how_often_they_run(tiny):
    assert tiny.weights == {"Gmain": 1, "Greg": 1 / 4, "Dmain": 1, "Dreg": 1 / 16}
    by_phase = tiny.grouped(lambda call: call.phase)
    launches = {name: sum(call.launches for call in tiny.calls if call.phase == name) for name in tiny.weights}
    assert {name: cost.launches for name, cost in by_phase.items()} == {
        name: launches[name] * weight for name, weight in tiny.weights.items()
    }
    assert tiny.total.launches == sum(cost.launches for cost in by_phase.values())
    assert tiny.total.flops == pytest.approx(sum(cost.flops for cost in by_phase.values()))


def test_each_phase_updates_its_network_once_by_fused_adam(tiny):
    adam = [call for call in tiny.calls if call.operator == "fused_adam"]
    assert [call.phase for call in adam] == ["Gmain", "Greg", "Dmain", "Dreg"]


def test_no_phase_lets_the_host_wait(tiny):
    assert tiny.waits == []


def test_counts_repeat(tiny):
    again = trace(parse_flags(TINY), 8)
    assert again.calls == tiny.calls


def test_twice_the_images_are_twice_the_arithmetic_of_convolutions(tiny):
    flags = [flag for flag in TINY if not flag.startswith("--batch-gpu")]
    twice = trace(parse_flags([*flags, "--batch-gpu=16"]), 8)
    convolutions = [
        sum(call.flops for call in each.calls if operator_class(call) == "convolution") for each in (tiny, twice)
    ]
    assert convolutions[1] == 2 * convolutions[0]


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::convolution_backward", "convolution"),
        ("aten::convolution (grouped)", "filter by grouped convolution"),
        ("mscond::bias_act", "mscond::bias_act"),
        ("fused_adam", "fused_adam"),
        ("aten::_foreach_norm", "_foreach_norm"),
        ("aten::addmm", "matrix product"),
        ("aten::sum", "reduction"),
        ("aten::clone", "copy"),
        ("aten::mul", "element-wise"),
    ],
)
def test_classes(operator, kind):
    assert operator_class(Call("Gmain", operator, 1, 0, 0, 0, "float32", "")) == kind


def run(*args):
    return CliRunner().invoke(main, ["--res=8", *args, *TINY])


def test_tables(tiny, monkeypatch):
    monkeypatch.setattr(gpu_cost, "trace", lambda flags, resolution: tiny)
    result = run("--by=source", "--order=launches", "--lines=3")
    assert result.exit_code == 0, result.output
    total = tiny.total
    assert f"total of an iteration: {total.launches:.0f} launches, {total.gigabytes:.1f} GB" in result.output
    assert "the host waits for the GPU: never" in result.output
    phases, sources = result.output.split("\n\n")[:2]
    assert "Greg, run 0.25 times" in phases
    assert len(sources.splitlines()) == 4
    assert "training/networks.py:" in sources


def test_json(tiny):
    result = run("--json")
    line = json.loads(result.output)
    assert line["launches"] == tiny.total.launches
    assert line["gigabytes"] == pytest.approx(tiny.total.gigabytes)
    assert line["waits"] == []


def test_errors_are_one_line():
    result = run("--gamma=1", "--batch=7")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
