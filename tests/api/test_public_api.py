"""Import paths and signatures that pickles and other people's tools rely on, as they are in public_api.json.

After adding a name or a keyword at the end of a signature, and after nothing else, write the inventory anew::

    python -m tests.api.test_public_api

A new name enters as ``"name": null`` by hand; so does removing one.
"""

import importlib
import importlib.util
import inspect
import json
from pathlib import Path

import pytest

INVENTORY = Path(__file__).with_name("public_api.json")
API = json.loads(INVENTORY.read_text())
COMMAND = "python -m tests.api.test_public_api"


def exists(module_name):
    try:
        return importlib.util.find_spec(module_name) is not None
    except ModuleNotFoundError:
        return False


def describe(obj):
    """A signature without annotations, for a class those of its public methods too, or "value"."""
    if inspect.isclass(obj):
        own = [vars(base) for base in reversed(obj.__mro__) if exists_here(base.__module__)]
        members = {name: member for each in own for name, member in each.items() if not name.startswith("_")}
        return {"__init__": signature(obj), **{name: describe_member(members[name]) for name in sorted(members)}}
    return signature(obj) if callable(obj) else "value"


def describe_member(member):
    member = getattr(member, "__func__", member)  # of a static or class method
    return signature(member) if callable(member) else "value"


def exists_here(module_name):
    return module_name.partition(".")[0] in {name.partition(".")[0] for name in API}


def signature(obj):
    try:
        found = inspect.signature(obj)
    except ValueError:  # a builtin, such as torch.nan_to_num
        return "callable"
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    return str(inspect.Signature(bare))


def current(module_name):
    module = importlib.import_module(module_name)
    return {name: describe(getattr(module, name)) for name in API[module_name]}


@pytest.mark.parametrize("module_name", API)
def test_the_public_names_are_those_of_the_inventory(module_name):
    if not exists(module_name) and not any(API[module_name].values()):
        pytest.skip(f"{module_name} does not exist yet")
    assert current(module_name) == API[module_name], f"if you only added something: {COMMAND}"


def test_names_that_pickles_hold_are_defined_where_they_say():
    from dnnlib.util import EasyDict
    from torch_utils.persistence import _reconstruct_persistent_obj

    assert EasyDict.__module__ == "dnnlib.util"
    assert _reconstruct_persistent_obj.__module__ == "torch_utils.persistence"


if __name__ == "__main__":
    inventory = {name: current(name) if exists(name) else names for name, names in API.items()}
    INVENTORY.write_text(json.dumps(inventory, indent=2) + "\n")
