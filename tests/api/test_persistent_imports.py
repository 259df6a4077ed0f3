"""Modules whose source travels in pickles may run inside the reference's checkout: they import only what it has too.

That is the standard library, numpy, scipy, torch and the names of public_api.json, by absolute imports. What they can
do without, such as kernels for GPUs, they import in a ``try`` with ``except ImportError``.
"""

import ast
import json
import sys
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

API = json.loads(Path(__file__).with_name("public_api.json").read_text())
PERSISTENT_MODULES = ["training/networks.py", "training/augment.py", "msconD/discriminator.py"]
ANYTHING_OF = {"numpy", "scipy", "torch"} | sys.stdlib_module_names
PACKAGES = {".".join(name.split(".")[:depth]) for name in API for depth in range(1, name.count(".") + 1)}


def optional_imports(tree):
    """The imports that may fail."""
    attempts = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    return {
        id(node)
        for attempt in attempts
        if any(isinstance(each.type, ast.Name) and each.type.id == "ImportError" for each in attempt.handlers)
        for node in attempt.body
    }


def faults(source):
    """What the source imports or uses and should not."""
    tree = ast.parse(source)
    found, modules = [], {}  # modules: local name -> module of the inventory
    optional = optional_imports(tree)
    for node in ast.walk(tree):
        if id(node) in optional:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] not in ANYTHING_OF:
                    found.append(f"import {alias.name}: use from ... import")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append(f"relative import of {node.module}")
            elif node.module.partition(".")[0] not in ANYTHING_OF:
                for alias in node.names:
                    full_name = f"{node.module}.{alias.name}"
                    if node.module in PACKAGES and full_name in API:
                        modules[alias.asname or alias.name] = full_name
                    elif alias.name not in API.get(node.module, {}):
                        found.append(full_name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            if node.attr not in API[module]:
                found.append(f"{module}.{node.attr}")
    return found


@pytest.mark.parametrize("path", PERSISTENT_MODULES)
def test_persistent_modules_use_only_what_the_reference_has(path):
    if not (REPOSITORY / path).exists():
        pytest.skip(f"{path} does not exist yet")
    assert faults((REPOSITORY / path).read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import math, numpy as np, torch.nn.functional as F",
        "from scipy import signal",
        "from torch_utils import misc as m\nm.constant(1)",
        "from torch_utils.ops import bias_act\nbias_act.bias_act",
        "from torch_utils.ops.bias_act import bias_act\nbias_act.anything",
        "from training.networks import Discriminator",
        "try:\n    from torch_utils.ops import new\nexcept ImportError:\n    new = None\nnew.anything",
    ],
)
def test_what_is_allowed(source):
    assert faults(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import PIL",
        "from PIL import Image",
        "from . import views",
        "from .views import View",
        "def f():\n    import msconD.views",
        "from msconD import views",
        "from torch_utils import distributed",
        "from torch_utils.misc import _private",
        "from torch_utils import misc as m\nm.something_new(1)",
        "from torch_utils.ops import bias_act\nbias_act.IMPLS",
        "import torch_utils.misc",
        "from torch_utils.ops import *",
        "try:\n    from torch_utils.ops import new\nexcept ValueError:\n    new = None",
        "try:\n    from torch_utils.ops import fma\nexcept ImportError:\n    from torch_utils.ops import new",
    ],
)
def test_what_is_not(source):
    assert faults(source) != []
