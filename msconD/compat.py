"""Compatibility shims: what code of 2021 relies on and current Python, PyTorch and SciPy no longer offer.

Each shim tests for the missing behavior instead of comparing version numbers.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

GRID_SAMPLE = "torch_utils.ops.grid_sample_gradfix"
TRUE_WORDS = ("y", "yes", "t", "true", "on", "1")
FALSE_WORDS = ("n", "no", "f", "false", "off", "0")


class Shim(NamedTuple):
    """A replacement for something that old code relies on."""

    is_needed: Callable[[], bool]
    apply: Callable[[], None]
    message: str
    """For the user."""


def apply_shims() -> list[str]:
    """Apply the shims that are needed, and return their messages."""
    needed = [shim for shim in SHIMS if shim.is_needed()]
    for shim in needed:
        shim.apply()
    return [shim.message for shim in needed]


def lacks_distutils() -> bool:
    """Return whether ``import distutils`` fails; setuptools may provide it."""
    return importlib.util.find_spec("distutils") is None


def provide_distutils() -> None:
    """Make ``distutils.util`` importable, with only `strtobool`."""
    distutils: Any = importlib.util.module_from_spec(ModuleSpec("distutils", None, is_package=True))
    distutils.util = importlib.util.module_from_spec(ModuleSpec("distutils.util", None))
    distutils.util.strtobool = strtobool
    sys.modules.update({"distutils": distutils, "distutils.util": distutils.util})


def strtobool(text: str) -> int:
    """Convert yes to 1 and no to 0, as PEP 632 advises projects that used distutils.

    Raises:
        ValueError: ``text`` is neither.
    """
    if text.lower() not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError(f"must be yes or no, got {text!r}")
    return int(text.lower() in TRUE_WORDS)


def sampler_takes_no_argument() -> bool:
    """Return whether the constructor of ``torch.utils.data.Sampler`` refuses the dataset."""
    return torch.utils.data.Sampler.__init__ is object.__init__


def let_sampler_take_an_argument() -> None:
    """Let the constructor of ``torch.utils.data.Sampler`` ignore a dataset."""

    def init(self: Any, data_source: Any = None) -> None:
        pass

    sampler_class: Any = torch.utils.data.Sampler
    sampler_class.__init__ = init


def grid_sample_has_no_second_derivative() -> bool:
    """Return whether R1 through a geometric augmentation would fail."""
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
    """Let augmentation sample with the function of this repository, which is differentiable twice.

    Its module cannot be imported by name, since the checkout has one of the same name.
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
    """Return whether ``scipy.linalg.sqrtm`` lacks the argument that FID passes."""
    import scipy.linalg  # which the official code needs, not ours

    return "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters


def let_sqrtm_take_disp() -> None:
    """Let ``scipy.linalg.sqrtm`` take ``disp``; False returns the error with the root, as SciPy did before 1.18."""
    import scipy.linalg

    sqrtm = scipy.linalg.sqrtm

    def with_disp(a: Any, disp: bool = True, **kwargs: Any) -> Any:
        root = sqrtm(a, **kwargs)
        return root if disp else (root, np.linalg.norm(root @ root - a) / np.linalg.norm(a))

    scipy.linalg.sqrtm = with_disp


def ddp_leaves_buffers_alone() -> bool:
    """Return whether DistributedDataParallel with ``broadcast_buffers=False`` keeps unequal buffers at construction.

    It used to copy those of process 0 once. It is tried in a group of one process, where copying shows in the version
    counter of the buffer.
    """
    if not dist.is_available():
        return False
    module = torch.nn.Linear(1, 1)
    module.register_buffer("buffer", torch.zeros([]))
    version = module.get_buffer("buffer")._version
    try:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    except RuntimeError:
        return True  # cannot be tried; copying twice does no harm
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the argument is deprecated
            torch.nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
    finally:
        dist.destroy_process_group()
    return module.get_buffer("buffer")._version == version


def let_ddp_copy_buffers() -> None:
    """Let DistributedDataParallel copy the buffers of the first process when constructed."""
    ddp_class: Any = torch.nn.parallel.DistributedDataParallel
    init = ddp_class.__init__

    @functools.wraps(init)
    def init_and_copy(self: Any, module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, module, *args, **kwargs)
        first_rank = dist.get_process_group_ranks(self.process_group)[0]
        for buffer in module.buffers():
            value = buffer.detach().contiguous()
            dist.broadcast(value, src=first_rank, group=self.process_group)
            buffer.detach().copy_(value)

    ddp_class.__init__ = init_and_copy


SHIMS = (
    Shim(lacks_distutils, provide_distutils, "Python no longer has distutils; provided distutils.util.strtobool"),
    Shim(
        sampler_takes_no_argument,
        let_sampler_take_an_argument,
        "torch.utils.data.Sampler no longer takes an argument; it is ignored",
    ),
    Shim(
        grid_sample_has_no_second_derivative,
        supply_grid_sample,
        "grid_sample of this PyTorch has no second derivative; replaced by one that has",
    ),
    Shim(
        ddp_leaves_buffers_alone,
        let_ddp_copy_buffers,
        "DistributedDataParallel no longer makes buffers equal when constructed; those of process 0 are copied",
    ),
    Shim(
        sqrtm_takes_no_disp,
        let_sqrtm_take_disp,
        "scipy.linalg.sqrtm no longer takes disp; accepted, and the error estimate of disp=False is computed",
    ),
)
