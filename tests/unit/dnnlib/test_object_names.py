import os
import re
from pathlib import Path

import pytest

from dnnlib import object_names
from dnnlib.errors import UserError
from dnnlib.util import EasyDict


def test_objects_by_name():
    assert object_names.get_obj_by_name("os.path.join") is os.path.join
    assert object_names.get_obj_by_name("torch_utils.misc.InfiniteSampler.advance").__name__ == "advance"
    assert object_names.call_func_by_name("a", "b", func_name="os.path.join") == str(Path("a", "b"))
    assert object_names.construct_class_by_name(class_name="dnnlib.util.EasyDict", x=1).x == 1


@pytest.mark.parametrize("name", ["os.path.joint", "no_such_module.f", "os", "os.path.join.deeper", "", ".os"])
def test_a_wrong_name_is_one_clear_line(name):
    with pytest.raises(UserError, match=re.escape(f"'{name}'")):
        object_names.call_func_by_name(func_name=name)


def test_names_cannot_write_to_the_terminal():
    for use in (object_names.get_obj_by_name, lambda name: getattr(EasyDict(), name)):
        with pytest.raises((UserError, AttributeError), match=re.escape("'\\x1b[2J!!!")) as caught:
            use("\x1b[2J" + 1000 * "!")
        assert len(str(caught.value)) < 200


def test_an_error_inside_a_module_is_not_taken_for_a_wrong_name(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import absent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        object_names.get_obj_by_name("broken_module.f")
