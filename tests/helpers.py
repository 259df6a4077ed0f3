"""What the tests share: golden cases, one tolerance rule, small oracles."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[1]
GOLDEN_DIR = Path(__file__).parent / "golden"

REL_FLOAT32 = 1e-5
"""Largest error of one float32 operation, relative to the largest magnitude of the expected array."""

REL_NETWORK_GRAD = 1e-4
"""The same for gradients through a whole network."""

Case = tuple[dict[str, Any], dict[str, np.ndarray]]


def repository_files() -> list[str]:
    """Paths of what git tracks or would track, relative to the repository."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in set(names) if (REPOSITORY / name).is_file())


def golden_cases(name: str, **match: Any) -> Iterator[Case]:
    """Yield (arguments, arrays by name) of each case of ``golden/<name>.npz`` whose arguments contain ``match``."""
    with np.load(GOLDEN_DIR / f"{name}.npz") as data:
        for case in json.loads(str(data["cases"])):
            if all(case.get(key) == value for key, value in match.items()):
                prefix = case["key"] + "/"
                yield case, {key.removeprefix(prefix): data[key] for key in data.files if key.startswith(prefix)}


def case_id(case: Case) -> str:
    return case[0]["key"]


def assert_close(actual: Any, expected: Any, rel: float = REL_FLOAT32) -> None:
    """Compare element-wise with a tolerance of ``rel`` times the largest expected magnitude; shapes must agree."""
    actual = np.asarray(actual.detach().cpu() if isinstance(actual, torch.Tensor) else actual, dtype=np.float64)
    expected = np.asarray(expected.detach().cpu() if isinstance(expected, torch.Tensor) else expected, dtype=np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if expected.size == 0:
        return
    assert np.isfinite(actual).all(), "not finite"
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12)
    assert error <= rel, f"largest error {error:.3g} of the largest magnitude, allowed {rel:g}"


LAYOUTS = ("contiguous", "channels_last", "transposed", "sliced")
"""Ways in which a tensor can lie in memory."""


def in_layout(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values [..., H, W] in another layout; gradients flow."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return x.mT.contiguous().mT
    if layout == "sliced":
        return torch.nn.functional.pad(x, [1, 2])[..., 1:-2]
    return x.contiguous()
