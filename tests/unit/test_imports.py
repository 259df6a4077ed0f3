"""Importing does nothing: no output, no warning, no GPU, no optional package."""

import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY, repository_files

SCRIPT = """
import importlib, sys
extras = "scipy matplotlib tensorboard efficientnet_lite_pytorch onnx imageio pooch lmdb pillow_heif"
for extra in extras.split():
    sys.modules[extra] = None  # as if it were not installed
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not sys.modules["torch"].cuda.is_initialized()
"""


@pytest.mark.slow
def test_importing_does_nothing():
    sources = [name for name in repository_files() if name.endswith(".py") and not name.startswith("tests/")]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sources]
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *modules]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
