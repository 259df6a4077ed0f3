"""What the compiler makes of the Triton kernels, without a GPU.

``python -m benchmarks.kernel_code`` compiles the kernels that training launches for A100 (sm_80), H100 (sm_90) and B200
(sm_100), as far as the installed Triton knows them, and prints for each the registers of a thread, the accesses to
spilled registers, how much of its images travels 128 bits at a time, and the instructions per element. Where a bound is
broken it says so, and exits with 1. ``--sm=90`` compiles for one kind of GPU, ``--only=bias_act`` some kernels.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
import torch

from torch_utils.ops import bias_act, demodulation, fir_filter, modulation

CAPABILITIES = (80, 90, 100)
"""A100, H100, B200."""

MAX_SPILLS, MIN_WIDE_SHARE = 0, 1.0
MAX_BIAS_ACT_INSTRUCTIONS, MAX_FIR_INSTRUCTIONS = 22, 45

TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}

WARP_SIZE, DEFAULT_WARPS = 32, 4

MIN_CHANNELS = 16
"""Images have more channels, and filters shrink them less."""


class Case(NamedTuple):
    """A launch to look at, and its bounds."""

    name: str
    launch: Callable[[], object]
    """Launches one kernel on tensors of the meta device."""
    max_instructions: float = math.inf
    """Per element."""
    min_wide_share: float = MIN_WIDE_SHARE


class Launch(NamedTuple):
    """The call of a kernel."""

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Any]
    """By the names of the parameters."""
    options: dict[str, int]
    """num_warps, where it is not the default."""

    @property
    def num_threads(self) -> int:
        """Threads per program."""
        return WARP_SIZE * self.options.get("num_warps", DEFAULT_WARPS)

    @property
    def num_rounds(self) -> int:
        """How often programs run through their code: once, or in a loop over ``tiles``."""
        return math.prod(self.grid) * self.args.get("tiles", 1)

    @property
    def images(self) -> list[torch.Tensor]:
        """The tensors that weigh, without biases, factors and noise."""
        tensors = [arg for arg in self.args.values() if isinstance(arg, torch.Tensor)]
        largest = max(tensor.numel() for tensor in tensors)
        return [tensor for tensor in tensors if tensor.numel() > largest / MIN_CHANNELS]

    @property
    def elements_per_round(self) -> float:
        """Elements of the largest tensor that one round deals with."""
        return max(image.numel() for image in self.images) / self.num_rounds

    @property
    def bytes_per_round(self) -> float:
        """Bytes of images that one round reads or writes, if it does so once."""
        return sum(image.nbytes for image in self.images) / self.num_rounds


class Code(NamedTuple):
    """What the compiler made of a launch."""

    registers: int
    """Per thread."""
    spills: int
    """Loads and stores of spilled registers."""
    wide_share: float
    """Share of the bytes of images for which there are accesses of 128 bits; 1 where images are read repeatedly."""
    instructions: float
    """Per element."""


def cases() -> Iterator[Case]:
    """Yield the launches of training at 128 px, a batch of 8."""
    for dtype in (torch.float16, torch.float32):
        for memory_format in (torch.channels_last, torch.contiguous_format):
            layout = "nhwc" if memory_format == torch.channels_last else "nchw"
            x = torch.empty([8, 64, 128, 128], dtype=dtype, device="meta").to(memory_format=memory_format)
            for case in (*bias_act_cases(x), *fir_cases(x), *modulation_cases(x)):
                yield case._replace(name=f"{case.name} {TYPES[dtype]} {layout}")
    yield from demodulation_cases()


def bias_act_cases(x: torch.Tensor) -> Iterator[Case]:
    """Yield the passes of `bias_act`: straight lines, of which networks are made by default, and once each curve."""
    b = x.new_empty(x.shape[1])
    forward, grad, second = map(
        inspect.unwrap, (bias_act._bias_act, bias_act._bias_act_grad, bias_act._bias_act_grad_grad)
    )
    lrelu = 1, "lrelu", (0.2, math.sqrt(2), 256.0)
    limit = MAX_BIAS_ACT_INSTRUCTIONS
    yield Case("bias_act lrelu", partial(forward, x, b, *lrelu), limit)
    yield Case("bias_act lrelu, gx", partial(grad, x, x, None, False, *lrelu), limit)
    yield Case("bias_act lrelu, gx gb", partial(grad, x, x, None, True, *lrelu), limit)
    curves = () if x.is_contiguous() or x.dtype != torch.float16 else ("tanh", "elu", "softplus", "swish")
    for act in curves:
        curve = 1, act, (0.0, 1.0, 256.0)
        yield Case(f"bias_act {act}", partial(forward, x, b, *curve))
        yield Case(f"bias_act {act}, gx gb", partial(grad, x, x, b, True, *curve))
        yield Case(f"bias_act {act}, second", partial(second, x, x, x, b, True, *curve))


def fir_cases(x: torch.Tensor) -> Iterator[Case]:
    """Yield the FIR filters of the networks, and one of the augmentation."""
    f, wavelet = (torch.empty(shape, device="meta") for shape in ([4, 4], [1, 12]))
    fir = inspect.unwrap(fir_filter._upfirdn2d)
    # Without channels-last, pixels are not aligned with those that they are made of.
    bounds = (math.inf, 0.0) if x.is_contiguous() else (MAX_FIR_INSTRUCTIONS, MIN_WIDE_SHARE)
    yield Case("fir 4x4", partial(fir, x, f, (1, 1), (1, 1), (1, 2, 1, 2), False, 1.0), *bounds)
    yield Case("fir 4x4, up 2", partial(fir, x, f, (2, 2), (1, 1), (2, 1, 2, 1), False, 4.0), *bounds)
    yield Case("fir 4x4, down 2", partial(fir, x, f, (1, 1), (2, 2), (1, 1, 1, 1), False, 1.0), *bounds)
    yield Case("fir 1x12, up 2", partial(fir, x, wavelet, (2, 1), (1, 1), (6, 5, 0, 0), False, 2.0), *bounds)


def modulation_cases(x: torch.Tensor) -> Iterator[Case]:
    """Yield the passes around a modulated convolution."""
    scale, bias = x.new_empty(x.shape[:2]), x.new_empty(x.shape[1])
    noise, strength = x.new_empty([x.shape[0], 1, *x.shape[2:]]), x.new_empty([])
    shift, act = [noise, strength, bias], [0.2, math.sqrt(2), 256.0]
    forward, grad, second = map(
        inspect.unwrap, (modulation._scale_act, modulation._scale_act_grad, modulation._scale_act_grad2)
    )
    yield Case("modulation", partial(forward, x, scale, shift, act))
    yield Case("modulation, gx", partial(grad, x, x, scale, shift, act))
    yield Case("modulation, second", partial(second, x, scale, x, x, scale, shift, act))


def demodulation_cases() -> Iterator[Case]:
    """Yield the passes over the weights of a layer, which are small and not aligned: 3x3 taps each."""
    weight, styles, power = (torch.empty(shape, device="meta") for shape in ([512, 512, 3, 3], [8, 512], [512, 512]))
    factors, style_factors = weight.new_empty(512), weight.new_empty(8)
    forward, weight_grad, styles_grad = map(
        inspect.unwrap, (demodulation._demodulation, demodulation._weight_grad, demodulation._styles_grad)
    )
    for name, launch in {
        "demodulation": partial(forward, weight, styles, True),
        "demodulation, weights": partial(weight_grad, weight, styles, power, weight, factors, styles, styles),
        "demodulation, styles": partial(styles_grad, styles, styles, style_factors, styles, styles, power),
    }.items():
        yield Case(name, launch, min_wide_share=0)


def record(launch: Callable[[], object]) -> Launch:
    """Return the call of a kernel instead of making it."""
    calls = []

    def run(kernel: Any, *args: Any, grid: tuple[int, ...], warmup: bool, **named: Any) -> None:
        options = {name: named.pop(name) for name in list(named) if name not in kernel.arg_names}
        calls.append(Launch(kernel, grid, dict(zip(kernel.arg_names, args, strict=False)) | named, options))

    with mock.patch("triton.runtime.jit.JITFunction.run", run):
        launch()
    (call,) = calls
    return call


def compile_for(launch: Launch, capability: int) -> bytes:
    """Compile a launch as Triton would on a GPU: specialized in aligned tensors, multiples of 16, ones and None."""
    types, constants, aligned = {}, {}, {}
    for index, param in enumerate(launch.kernel.params):
        arg = launch.args[param.name]
        if param.is_constexpr or arg is None or (isinstance(arg, int) and arg == 1):
            types[param.name], constants[(index,)] = "constexpr", arg
            continue
        types[param.name] = _type_of(arg)
        if isinstance(arg, torch.Tensor) or (isinstance(arg, int) and arg % 16 == 0):
            aligned[(index,)] = [["tt.divisibility", 16]]
    triton, backends = importlib.import_module("triton"), importlib.import_module("triton.backends.compiler")
    source = triton.compiler.ASTSource(launch.kernel, types, constants, aligned)
    target = backends.GPUTarget("cuda", capability, WARP_SIZE)
    cubin: bytes = triton.compile(source, target, launch.options).asm["cubin"]
    return cubin


def _type_of(arg: Any) -> str:
    if isinstance(arg, torch.Tensor):
        return "*" + TYPES[arg.dtype]
    if isinstance(arg, int):
        return "i32" if -(2**31) <= arg < 2**31 else "i64"
    return "fp32"


def known_capabilities(wanted: tuple[int, ...]) -> Iterator[int]:
    """Yield those that this Triton compiles for, and name the others."""
    launch = record(next(cases()).launch)
    for capability in wanted:
        try:
            compile_for(launch, capability)
        except Exception as error:  # whatever its assembler says of a GPU that it does not know
            print(f"sm_{capability}: left out, as this Triton cannot compile for it: {type(error).__name__}: {error}")
        else:
            yield capability


def count(cubin: bytes, launch: Launch) -> Code:
    """Disassemble machine code and count."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        usage, assembly = _run("cuobjdump", "-res-usage", path), _run("nvdisasm", path)
    found = re.search(r"REG:(\d+)", usage)
    assert found is not None, usage
    instructions = instructions_of(assembly)
    per_element = len(instructions) * launch.num_threads / launch.elements_per_round
    spills = sum(instruction.startswith(("LDL", "STL")) for instruction in instructions)
    widths = [access_bits(name) for name in instructions if name.startswith(("LDG", "STG"))]
    wide_bytes = sum(width for width in widths if width >= 128) / 8 * launch.num_threads
    wide_share = min(wide_bytes / launch.bytes_per_round, 1)
    return Code(int(found[1]), spills, wide_share, per_element)


def _run(tool: str, *args: str | Path) -> str:
    package = importlib.import_module("triton.backends.nvidia").__file__
    assert package is not None
    path = Path(package).parent / "bin" / tool
    return subprocess.run([path, *args], capture_output=True, text=True, check=True).stdout


def instructions_of(assembly: str) -> list[str]:
    """Return the names of the instructions in the output of nvdisasm, without padding: ["LDG.E.128", ...]."""
    names = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*).*;", assembly, re.MULTILINE)
    return [name for name in names if name != "NOP"]


def access_bits(name: str) -> int:
    """Return the bits that an access such as ``LDG.E.U16.CONSTANT`` moves; without a number, 32."""
    found = re.search(r"\.[US]?(8|16|64|128|256)(?:\.|$)", name)
    return int(found[1]) if found else 32


def broken_bounds(case: Case, code: Code) -> Iterator[str]:
    """Yield what is wrong with the code."""
    if code.spills > MAX_SPILLS:
        yield f"{code.spills} spills"
    if code.wide_share < case.min_wide_share:
        yield f"{code.wide_share:.0%} in 128 bits, at least {case.min_wide_share:.0%} wanted"
    if code.instructions > case.max_instructions:
        yield f"{code.instructions:.1f} instructions, at most {case.max_instructions:g} wanted"


@click.command()
@click.option("--sm", "capabilities", type=int, multiple=True, default=CAPABILITIES, show_default=True)
@click.option("--only", default="", help="Kernels whose name contains this.")
def main(capabilities: tuple[int, ...], only: str) -> None:
    """Compile the kernels for GPUs, print a table, and fail if a bound is broken."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise click.ClickException("with TRITON_INTERPRET=1 Triton only interprets; unset it")
    num_kernels = num_broken = 0
    print(f"{'kernel':36}{'GPU':>7}{'registers':>11}{'spills':>8}{'128 bits':>10}{'instructions':>14}")
    for capability in known_capabilities(capabilities):
        for case in (case for case in cases() if only in case.name):
            launch = record(case.launch)
            code = count(compile_for(launch, capability), launch)
            problems = "; ".join(broken_bounds(case, code))
            num_kernels, num_broken = num_kernels + 1, num_broken + bool(problems)
            figures = f"{code.registers:11}{code.spills:8}{code.wide_share:10.0%}{code.instructions:14.1f}"
            print(f"{case.name:36}{f'sm_{capability}':>7}{figures}  {problems}".rstrip(), flush=True)
    if num_kernels == 0:
        raise click.ClickException("no kernel was compiled")
    if num_broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
