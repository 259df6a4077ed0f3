import importlib.metadata
import sys

import pytest
import torch
from click.testing import CliRunner
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.helpers import REPOSITORY
from torch_utils import doctor


def report(**runner_kwargs):
    result = CliRunner(**runner_kwargs).invoke(doctor.main, [], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_report_covers_versions_devices_ops_and_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("dnnlib.cache_folder._cache_dir", None)
    output = report()
    findings = dict(line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  "))
    assert findings["torch"] == torch.__version__
    assert findings["folder"].startswith(str(tmp_path))
    assert {"python", "cpu", "numpy", "onnx", "bias_act", "upfirdn2d"} < set(findings)
    assert "MISSING" not in output
    assert "problem" not in output


def test_the_cache_may_have_a_name_in_any_language(monkeypatch, tmp_path):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "f\u00fcnf"))
    monkeypatch.setattr("dnnlib.cache_folder._cache_dir", None)
    assert "f\\xfcnf" in report(charset="ascii")


def test_missing_packages_come_with_the_command_that_installs_them(monkeypatch):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert dict(doctor.packages())["numpy"].endswith("pip install numpy")
    onnx = dict(doctor.extras())["onnx"]
    assert onnx.startswith("missing onnx, onnxscript, onnxruntime, for ")
    assert onnx.endswith(": pip install '.[onnx]'")


def test_what_is_installed_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "1.2.3")
    assert set(dict(doctor.packages()).values()) == {"1.2.3"}
    assert all(finding.startswith("installed, for ") for _, finding in doctor.extras())


def test_the_lists_are_those_of_pyproject():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {Requirement(text).name for text in requirements} - {project["name"]}

    assert names(project["dependencies"]) == {"torch", *doctor.NEEDED}
    asked = {extra: names(requirements) for extra, requirements in project["optional-dependencies"].items()}
    assert asked == {extra: set(packages) for extra, (_, packages) in doctor.EXTRAS.items()}


@pytest.mark.parametrize(
    ("impls", "enabled", "words"),
    [
        (("auto", "ref"), True, "PyTorch on every device"),
        (("auto", "ref", "triton"), True, "kernels: triton"),
        (("auto", "ref"), False, "PyTorch on every device, switched off"),
    ],
)
def test_ops_say_how_they_run(monkeypatch, impls, enabled, words):
    monkeypatch.setattr("torch_utils.ops.bias_act.IMPLS", impls)
    monkeypatch.setattr("torch_utils.ops.bias_act.enabled", enabled, raising=False)
    assert dict(doctor.ops())["bias_act"] == words


def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "make_cache_dir_path", lambda: str(tmp_path / "a" / "b"))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path)
    assert dict(doctor.cache())["problem"].startswith(f"{tmp_path} is not writable")


def test_a_user_without_a_home_is_a_problem(homeless):
    assert dict(doctor.cache())["problem"].startswith("this user has no home folder")
