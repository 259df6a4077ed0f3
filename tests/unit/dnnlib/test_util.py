import copy
import pickle
import subprocess
import sys

import pytest

import dnnlib
from dnnlib.util import EasyDict
from tests.helpers import REPOSITORY


def test_easy_dict_is_a_dict_with_attributes():
    d = EasyDict(a=1)
    d.b = 2
    d["c"] = 3
    assert d == {"a": 1, "b": 2, "c": 3}
    assert (d.a, d["b"], d.c) == (1, 2, 3)
    del d.a
    assert "a" not in d


@pytest.mark.parametrize("use", [lambda d: d.absent, lambda d: delattr(d, "absent")])
def test_easy_dict_reports_missing_attributes(use):
    with pytest.raises(AttributeError, match="absent"):
        use(EasyDict())


def test_easy_dict_survives_copies_and_is_pickled_under_its_module():
    d = EasyDict(a=EasyDict(b=[1]))
    for other in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert type(other) is type(other.a) is EasyDict
        assert other == d
    assert b"dnnlib.util" in pickle.dumps(d, protocol=0)
    assert dnnlib.EasyDict is EasyDict


def test_import_is_silent_and_loads_nothing_heavy():
    code = "import sys, dnnlib; print(*{'torch', 'numpy', 'pooch', 'requests', 'tqdm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
