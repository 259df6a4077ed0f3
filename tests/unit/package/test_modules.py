"""Our modules below a name of the package: they find each other there, and nothing of another name appears."""

import importlib
import os
import pickle
import subprocess
import sys

import pytest
import torch

from package import modules
from tests import tiny_snapshot
from tests.helpers import REPOSITORY
from torch_utils.ops import bias_act, kernels

BELOW = modules.__name__


@pytest.mark.parametrize("name", ["train", "training", "training.networks", "msconD.config", "legacy"])
def test_ours(name):
    assert modules.is_ours(name)


@pytest.mark.parametrize("name", ["torch", "os", "os.path", "trainer", "docs", ""])
def test_not_ours(name):
    assert not modules.is_ours(name)


def test_imports_find_each_other():
    summary = importlib.import_module(f"{BELOW}.training.data.summary")
    assert summary.Report.__module__ == f"{BELOW}.training.data.report"  # from ... import
    doctor = importlib.import_module(f"{BELOW}.torch_utils.doctor")
    assert doctor.torch_utils is sys.modules[f"{BELOW}.torch_utils"]  # import torch_utils.ops
    assert doctor.os is os


def test_classes_by_name():
    object_names = importlib.import_module(f"{BELOW}.dnnlib.object_names")
    generator = object_names.get_obj_by_name("training.networks.Generator")
    assert generator.__module__ == f"{BELOW}.training.networks"
    assert object_names.name_of_class(generator) == "training.networks.Generator"
    assert object_names.get_obj_by_name("os.path.join") is os.path.join
    with pytest.raises(object_names.UserError, match="cannot find"):
        object_names.get_obj_by_name("training.nothing.Nothing")


def test_operators_have_names_of_their_own():
    """PyTorch frees an operator that is defined again, and those that hold it crash."""
    below = importlib.import_module(f"{BELOW}.torch_utils.ops.bias_act")
    assert (kernels.NAMESPACE, below.kernels.NAMESPACE) == ("mscond", "mscond_package_modules")
    for module in (bias_act, below):
        assert module.bias_act(torch.empty([2, 3], device="meta"), torch.empty([3], device="meta")).shape == (2, 3)


def test_no_such_module():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{BELOW}.nothing")


SCRIPT = """
import pickle, sys
import metrics, train, training
before = set(sys.modules)
import package
generator = package.load("tiny.pkl", device="cpu")
images = generator.sample([1, 2], truncation=0.5)
generator.save("saved")
assert (package.from_pretrained("saved", device="cpu").sample([1, 2], truncation=0.5) == images).all()
ours = {"training", "metrics", "torch_utils", "dnnlib", "msconD", "baselines", "train", "legacy"}
new = {name for name in set(sys.modules) - before if name.partition(".")[0] in ours}
assert not new, new
assert (metrics.OWNER, train.OWNER, training.OWNER) == ("them",) * 3
pickle.dump(generator.network, open("pickled", "wb"))
"""
UNPICKLE = "import pickle, training; print(type(pickle.load(open('pickled', 'rb'))).__module__, training.OWNER)"


@pytest.mark.slow
def test_a_program_with_modules_of_these_names(tmp_path):
    for name in ("metrics", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWNER = 'them'")
    (tmp_path / "train.py").write_text("OWNER = 'them'")
    tiny_snapshot.write(tmp_path / "tiny.pkl")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=env, check=True)
    unpickled = subprocess.check_output([sys.executable, "-c", UNPICKLE], cwd=tmp_path, env=env, text=True)
    assert unpickled.split()[1] == "them"
    assert pickle.loads(pickle.dumps(tiny_snapshot.generator())).z_dim == 8
