"""A generator as programs that do not depend on this project: ``torch.export`` and ONNX.

Program ``mapping`` takes z, truncation_psi if the network can truncate, and c if it is conditional, and returns ws;
program ``synthesis`` takes ws and returns img. Both compute in float32, with constant noise, for any batch size.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dnnlib.atomic import write_atomic
from dnnlib.commands import how_to_install
from dnnlib.errors import UserError
from training.inference.sampling import can_truncate

OUTPUTS = {"mapping": "ws", "synthesis": "img"}
"""The programs and the names of their outputs."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Tensors = dict[str, torch.Tensor]
Program = Callable[..., torch.Tensor]
"""Takes its inputs as keyword arguments."""


class Mapping(torch.nn.Module):
    """Mapping network with the inputs of program ``mapping``."""

    def __init__(self, mapping: torch.nn.Module) -> None:
        super().__init__()
        self.mapping = mapping

    def forward(
        self, z: torch.Tensor, truncation_psi: torch.Tensor | None = None, c: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map ``z`` [N, z_dim] and ``c`` [N, c_dim], truncated by ``truncation_psi`` [], to ``[N, num_ws, w_dim]``."""
        ws: torch.Tensor = self.mapping(z, c, truncation_psi=1 if truncation_psi is None else truncation_psi)
        return ws


class Synthesis(torch.nn.Module):
    """Synthesis network with constant noise."""

    def __init__(self, synthesis: torch.nn.Module) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: torch.Tensor) -> torch.Tensor:
        """Map ``ws`` [N, num_ws, w_dim] to images ``[N, C, R, R]`` of about [-1, 1]."""
        img: torch.Tensor = self.synthesis(ws, noise_mode="const")
        return img


def export_programs(G: Any) -> dict[str, torch.export.ExportedProgram]:
    """Export the mapping and the synthesis network of a generator on the CPU."""
    num = 2  # an example of one image would fix the batch size
    mapping_inputs = {"z": torch.zeros([num, G.z_dim])}
    if can_truncate(G):
        mapping_inputs["truncation_psi"] = torch.tensor(0.5)
    if G.c_dim > 0:
        mapping_inputs["c"] = torch.zeros([num, G.c_dim])
    return {
        "mapping": _export(Mapping(G.mapping), mapping_inputs),
        "synthesis": _export(Synthesis(G.synthesis), {"ws": torch.zeros([num, G.num_ws, G.w_dim])}),
    }


def _export(module: torch.nn.Module, inputs: Tensors) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    dynamic_shapes = {name: {0: batch} if tensor.ndim > 0 else None for name, tensor in inputs.items()}
    with torch.no_grad():
        return torch.export.export(module.eval(), (), inputs, dynamic_shapes=dynamic_shapes)


def save_pt2(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program for ``torch.export.load``."""
    write_atomic(path, lambda file: torch.export.save(program, file))


def load_pt2(path: Path) -> Program:
    """Load what `save_pt2` wrote; this executes code from the file."""
    return torch.export.load(path).module()


def save_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as one ONNX file; its name is the stem of ``path``."""
    with _quiet_exporter():
        onnx_program = torch.onnx.export(program, dynamo=True, verbose=False, output_names=[OUTPUTS[path.stem]])
    assert onnx_program is not None
    write_atomic(path, onnx_program.model_proto.SerializeToString())


def load_onnx(path: Path) -> Program:
    """Open an ONNX file with ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(**inputs: torch.Tensor) -> torch.Tensor:
        (output,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(output)

    return run


def check_onnx_packages() -> None:
    """Check that ONNX files can be written and run.

    Raises:
        UserError: A package is missing.
    """
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {', '.join(missing)}: {how_to_install('onnx')}")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what PyTorch's exporter says about torchvision and about deprecated calls of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
