from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from benchmarks import kernel_code
from tests.helpers import REPOSITORY

ASSEMBLY = """
.text._bias_act_kernel:
        /*0000*/ \t.byte\t0x01, 0x03
        /*0010*/                   LDC R1, c[0x0][0x28] ;
        /*0020*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0030*/               @P1 LDG.E.U16.CONSTANT R4, desc[UR4][R2.64] ;
        /*0040*/                   LDL.64 R4, [R1+0x8] ;
        /*0050*/                   FMUL R4, R4, R5 ;
        /*0060*/             @!UP0 STL [R1], R4 ;
        /*0070*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0080*/                   EXIT ;
.L_x_0:
        /*0090*/                   BRA `(.L_x_0);
        /*10a0*/                   NOP;
"""


def test_instructions_are_found_in_assembly() -> None:
    assert kernel_code.instructions_of(ASSEMBLY) == [
        *("LDC", "LDG.E.128", "LDG.E.U16.CONSTANT", "LDL.64", "FMUL", "STL", "STG.E.128", "EXIT", "BRA"),
    ]


@pytest.mark.parametrize(
    ("name", "bits"),
    [("LDG.E", 32), ("LDG.E.64", 64), ("LDG.E.128.CONSTANT", 128), ("LDG.E.U16", 16), ("STG.E.S8", 8), ("STG.E", 32)],
)
def test_the_width_of_an_access(name: str, bits: int) -> None:
    assert kernel_code.access_bits(name) == bits


def launch(elements: int = 1024, programs: int = 2, tiles: int = 1) -> kernel_code.Launch:
    """Reads and writes float16 images; 128 threads."""
    x = torch.empty(elements, dtype=torch.float16, device="meta")
    return kernel_code.Launch(None, (programs,), {"x": x, "y": x, "b": x[:4], "C": 4, "tiles": tiles}, {"num_warps": 4})


def test_figures_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_code, "_run", lambda tool, *_: "REG:40 STACK:0" if tool == "cuobjdump" else ASSEMBLY)
    code = kernel_code.count(b"", launch(elements=8192))
    assert code == kernel_code.Code(registers=40, spills=2, wide_share=0.25, instructions=9 * 128 / 4096)
    assert kernel_code.count(b"", launch(elements=1024)).wide_share == 1
    assert kernel_code.count(b"", launch(elements=8192, tiles=2)).wide_share == 0.5


def test_broken_bounds_are_named() -> None:
    case = kernel_code.Case("act", lambda: None, max_instructions=22)
    assert list(kernel_code.broken_bounds(case, kernel_code.Code(255, 0, 1.0, 22.0))) == []
    assert list(kernel_code.broken_bounds(case, kernel_code.Code(255, 3, 0.5, 22.5))) == [
        "3 spills",
        "50% in 128 bits, at least 100% wanted",
        "22.5 instructions, at most 22 wanted",
    ]


def test_the_interpreter_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    result = CliRunner().invoke(kernel_code.main)
    assert result.exit_code == 1
    assert "unset it" in result.output


def test_broken_bounds_and_no_kernels_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernel_code, "known_capabilities", lambda wanted: wanted)
    monkeypatch.setattr(kernel_code, "cases", lambda: iter([kernel_code.Case("act", lambda: None, 22)]))
    monkeypatch.setattr(kernel_code, "record", lambda _: launch())
    monkeypatch.setattr(kernel_code, "compile_for", lambda *_: b"")
    for instructions, exit_code in [(22.0, 0), (23.0, 1)]:
        code = kernel_code.Code(40, 0, 1.0, instructions)
        monkeypatch.setattr(kernel_code, "count", lambda *_, code=code: code)
        result = CliRunner().invoke(kernel_code.main, ["--sm=80"])
        assert result.exit_code == exit_code
        assert "sm_80         40       0      100%" in result.output
    assert "no kernel was compiled" in CliRunner().invoke(kernel_code.main, ["--only=nothing"]).output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
def test_kernels_for_one_gpu_keep_their_bounds() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.kernel_code", "--sm=90"]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "bias_act lrelu fp16 nhwc" in result.stdout
    assert "fir 4x4 fp16 nhwc" in result.stdout
