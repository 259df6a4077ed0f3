import importlib.metadata

import pytest
import torch

from torch_utils import doctor


def test_the_report_covers_versions_devices_ops_and_cache(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("dnnlib.util._cache_dir", None)
    doctor.main()
    output = capsys.readouterr().out
    findings = dict(line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  "))
    assert findings["torch"] == torch.__version__
    assert findings["folder"].startswith(str(tmp_path))
    assert {"python", "cpu", "bias_act", "upfirdn2d"} < set(findings)
    assert "MISSING" not in output
    assert "problem" not in output


def test_missing_packages_come_with_the_command_that_mends_it(monkeypatch):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = dict(doctor.packages())
    assert findings["numpy"].endswith("pip install numpy")
    assert findings["tensorboard"].endswith("pip install '.[tb]'")


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
    assert dict(doctor.cache())["problem"].startswith(f"{tmp_path} cannot be written")
