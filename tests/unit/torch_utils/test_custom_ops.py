import os
import shutil
import sys
import sysconfig

import pytest
import torch

from torch_utils import custom_ops

COMPILER = os.environ.get("CXX", "c++")

SOURCE = """
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <torch/csrc/utils/pybind.h>  // much smaller than torch/extension.h

at::Tensor twice(const at::Tensor& x) { return at::add(x, x); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("twice", &twice); }
"""


@pytest.fixture
def builds(monkeypatch):
    """Calls of a stand-in for the compiler."""
    builds = []

    def load(**kwargs):
        builds.append({**kwargs, "path": os.environ["PATH"].split(os.pathsep)})
        return object()

    monkeypatch.setattr("torch.utils.cpp_extension.load", load)
    monkeypatch.setattr(custom_ops, "_plugins", {})
    return builds


@pytest.mark.parametrize(("verbosity", "output"), [("none", ""), ("brief", "Building p\n"), ("full", "Building p\n")])
def test_a_plugin_is_built_once(builds, monkeypatch, capsys, verbosity, output):
    monkeypatch.setattr(custom_ops, "verbosity", verbosity)
    plugin = custom_ops.get_plugin("p", sources=("a.cpp", "b.cu"), extra_cflags=["-O3"])
    assert custom_ops.get_plugin("p", sources=("a.cpp", "b.cu")) is plugin
    verbose = verbosity == "full"
    (build,) = builds
    del build["path"]
    assert build == {"name": "p", "sources": ["a.cpp", "b.cu"], "extra_cflags": ["-O3"], "verbose": verbose}
    assert capsys.readouterr().out == output


def test_programs_of_an_environment_that_is_not_activated_are_found(builds, monkeypatch):
    monkeypatch.setenv("PATH", "/somewhere")
    custom_ops.get_plugin("p", sources=["a.cpp"])
    assert builds[0]["path"] == ["/somewhere", sysconfig.get_path("scripts")]
    assert os.environ["PATH"] == "/somewhere"


def test_an_unknown_verbosity_is_refused(builds, monkeypatch):
    monkeypatch.setattr(custom_ops, "verbosity", "loud")
    with pytest.raises(ValueError, match="'loud', expected 'none', 'brief' or 'full'"):
        custom_ops.get_plugin("p", sources=[])
    assert builds == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"there is no C++ compiler ({COMPILER})")
def test_an_extension_is_compiled_and_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(custom_ops, "_plugins", {})
    source = tmp_path / "twice.cpp"
    source.write_text(SOURCE)
    try:
        plugin = custom_ops.get_plugin("mscond_twice", sources=[str(source)], extra_cflags=["-O0"])
        assert plugin.twice(torch.tensor([1.0, -3.0])).tolist() == [2, -6]
        assert custom_ops.get_plugin("mscond_twice", sources=[]) is plugin
    finally:
        sys.modules.pop("mscond_twice", None)
