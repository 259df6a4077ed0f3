"""Checks whether a StyleGAN2-ADA checkout has what the method builds on, by reading its sources, not running them."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGES = ("dnnlib", "torch_utils", "training")
"""They make a folder a checkout, and must be packages: others of the same name might be imported instead."""

SUPPORTED = "NVlabs/stylegan2-ada-pytorch and forks with the same networks, loss and training loop are supported"

REQUIRED: dict[str, dict[str, tuple[str, ...]]] = {
    "dnnlib/util.py": {"construct_class_by_name": ()},
    "torch_utils/persistence.py": {"persistent_class": ()},
    "torch_utils/misc.py": {"ddp_sync": ("module", "sync")},
    "torch_utils/training_stats.py": {"report": ("name", "value")},
    "torch_utils/ops/conv2d_gradfix.py": {"no_weight_gradients": ()},
    "training/augment.py": {
        "AugmentPipe.__init__": ("brightness", "contrast", "hue", "hue_max", "saturation", "saturation_std"),
    },
    "training/dataset.py": {"ImageFolderDataset.__init__": ("path",)},
    "training/networks.py": {
        "FullyConnectedLayer.__init__": ("in_features", "out_features", "activation"),
        "Conv2dLayer.__init__": ("in_channels", "out_channels", "kernel_size", "bias", "activation"),
        "Conv2dLayer.forward": ("x", "gain"),
        "Discriminator.__init__": ("c_dim", "img_resolution", "img_channels"),
        "Discriminator.forward": ("img", "c"),
        "DiscriminatorEpilogue.forward": ("x", "img", "cmap"),
    },
    "training/loss.py": {
        "StyleGAN2Loss.__init__": ("device", "G_mapping", "G_synthesis", "D", "augment_pipe"),
        "StyleGAN2Loss.run_G": ("z", "c", "sync"),
        "StyleGAN2Loss.run_D": ("img", "c", "sync"),
        "StyleGAN2Loss.accumulate_gradients": ("phase", "real_img", "real_c", "gen_z", "gen_c", "sync", "gain"),
    },
    "training/training_loop.py": {
        "training_loop": ("run_dir", "D_kwargs", "loss_kwargs", "num_gpus", "batch_size", "batch_gpu"),
    },
}
"""Arguments by file and function, as far as `msconD` uses them."""

CALLED_BY_CHECKOUT = "StyleGAN2Loss.accumulate_gradients"
"""`msconD.loss.MsConDLoss` takes its place, so that it must not have further arguments either."""


def missing_package(checkout: Path) -> str | None:
    """Return the first file without which ``checkout`` is not a StyleGAN2-ADA checkout at all, or None."""
    return next((f"{name}/__init__.py" for name in PACKAGES if not (checkout / name / "__init__.py").is_file()), None)


def missing_part(checkout: Path) -> str | None:
    """Describe the first difference from the official code that the method cannot cope with, or None."""
    for name, functions in REQUIRED.items():
        if not (checkout / name).is_file():
            return f"{name} is missing"
        try:
            found = signatures((checkout / name).read_bytes())
        except (SyntaxError, ValueError):
            return f"{name} is not valid Python"
        for function, arguments in functions.items():
            if function not in found:
                return f"{name} has no {function}"
            lacking = [argument for argument in arguments if argument not in found[function]]
            if lacking:
                return f"{function} in {name} has no argument {lacking[0]}"
            further = [argument for argument in found[function] if argument not in ("self", *arguments)]
            if function == CALLED_BY_CHECKOUT and further:
                return f"{function} in {name} has a further argument {further[0]}"
    return None


def signatures(source: bytes) -> dict[str, list[str]]:
    """Return the arguments of functions and methods, inherited ones too, by name, such as ``Class.method``.

    Functions that are imported from another file count without arguments.

    Raises:
        SyntaxError: ``source`` is not valid Python.
        ValueError: It contains null bytes.
    """
    found: dict[str, list[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            found.update({alias.asname or alias.name: [] for alias in node.names})
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            owner = f"{ast.unparse(base)}."
            methods = [name for name in found if name.startswith(owner)]
            found.update({prefix + name.removeprefix(owner): found[name] for name in methods})
        for function in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(function, ast.FunctionDef):
                arguments = function.args
                every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
                found[prefix + function.name] = [argument.arg for argument in every]
    return found
