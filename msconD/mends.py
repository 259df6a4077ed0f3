"""What code of 2021 misses in today's Python, PyTorch and SciPy, put back at run time where it is missing.

Whether something is missing is tried out, never concluded from a version number.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import torch

GRID_SAMPLE = "torch_utils.ops.grid_sample_gradfix"
TRUE_WORDS = ("y", "yes", "t", "true", "on", "1")
FALSE_WORDS = ("n", "no", "f", "false", "off", "0")


class Mend(NamedTuple):
    """One thing that is missing, and its replacement."""

    is_needed: Callable[[], bool]
    apply: Callable[[], None]
    text: str
    """What is told to the user."""


def apply_mends() -> list[str]:
    """Put back whatever is missing, and return what to tell the user about it."""
    needed = [mend for mend in MENDS if mend.is_needed()]
    for mend in needed:
        mend.apply()
    return [mend.text for mend in needed]


def lacks_distutils() -> bool:
    """Whether ``import distutils`` fails; setuptools may provide it."""
    return importlib.util.find_spec("distutils") is None


def provide_distutils() -> None:
    """Make ``distutils.util`` importable, with `strtobool` alone."""
    distutils: Any = importlib.util.module_from_spec(ModuleSpec("distutils", None, is_package=True))
    distutils.util = importlib.util.module_from_spec(ModuleSpec("distutils.util", None))
    distutils.util.strtobool = strtobool
    sys.modules.update({"distutils": distutils, "distutils.util": distutils.util})


def strtobool(text: str) -> int:
    """Read yes as 1 and no as 0, as PEP 632 advises projects that lose distutils.

    Raises:
        ValueError: ``text`` is neither.
    """
    if text.lower() not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError(f"must be yes or no, got {text!r}")
    return int(text.lower() in TRUE_WORDS)


def sampler_takes_no_argument() -> bool:
    """Whether the constructor of ``torch.utils.data.Sampler`` refuses the dataset."""
    return torch.utils.data.Sampler.__init__ is object.__init__


def let_sampler_take_an_argument() -> None:
    """Let the constructor of ``torch.utils.data.Sampler`` ignore a dataset."""

    def init(self: Any, data_source: Any = None) -> None:
        pass

    sampler_class: Any = torch.utils.data.Sampler
    sampler_class.__init__ = init


def grid_sample_has_no_second_derivative() -> bool:
    """Whether R1 through a geometric augmentation would fail."""
    grad_output = torch.ones([1, 1, 1, 1], requires_grad=True)
    img = torch.ones([1, 1, 1, 1], requires_grad=True)
    out = torch.nn.functional.grid_sample(img, torch.zeros([1, 1, 1, 2]), align_corners=False)
    (grad,) = torch.autograd.grad(out, img, grad_output, create_graph=True)
    try:
        torch.autograd.grad(grad.sum(), grad_output)
    except RuntimeError:
        return True
    return False


def supply_grid_sample() -> None:
    """Let augmentation sample with the function of this repository, which may be differentiated twice.

    It cannot be imported by its name, which the official code has too.
    """
    path = Path(__file__).parents[1] / f"{GRID_SAMPLE.replace('.', '/')}.py"
    spec = importlib.util.spec_from_file_location("msconD_grid_sample", path)
    assert spec is not None
    assert spec.loader is not None
    ours: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ours)
    theirs: Any = importlib.import_module(GRID_SAMPLE)
    theirs.grid_sample = ours.grid_sample


def sqrtm_takes_no_disp() -> bool:
    """Whether ``scipy.linalg.sqrtm`` lacks the argument with which FID has called it."""
    return "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters


def let_sqrtm_take_disp() -> None:
    """Let ``scipy.linalg.sqrtm`` take ``disp``; False returns the error with the root, as SciPy did before 1.18."""
    sqrtm = scipy.linalg.sqrtm

    def with_disp(a: Any, disp: bool = True, **kwargs: Any) -> Any:
        root = sqrtm(a, **kwargs)
        return root if disp else (root, np.linalg.norm(root @ root - a) / np.linalg.norm(a))

    scipy.linalg.sqrtm = with_disp


MENDS = (
    Mend(lacks_distutils, provide_distutils, "Python has no distutils any more; supplied distutils.util.strtobool"),
    Mend(
        sampler_takes_no_argument,
        let_sampler_take_an_argument,
        "torch.utils.data.Sampler takes no argument any more; it is ignored",
    ),
    Mend(
        grid_sample_has_no_second_derivative,
        supply_grid_sample,
        "grid_sample of this PyTorch has no second derivative; replaced by one that has",
    ),
    Mend(
        sqrtm_takes_no_disp,
        let_sqrtm_take_disp,
        "scipy.linalg.sqrtm takes no disp any more; accepted, and what disp=False returned is computed",
    ),
)
