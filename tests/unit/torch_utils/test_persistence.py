import copy
import importlib
import pickle
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from dnnlib.util import EasyDict
from tests.helpers import REPOSITORY
from torch_utils import persistence
from torch_utils.persistence import is_persistent, persistent_class

SOURCE = '''
import sys
import torch
from torch_utils import persistence

sys.num_executions = getattr(sys, "num_executions", 0) + 1


@persistence.persistent_class
class Net(torch.nn.Module):
    """A network that changes its argument."""

    def __init__(self, size, options={}, **more):
        super().__init__()
        self.inner = Inner(size)
        self.register_buffer("scale", torch.full([1], 3.0))
        options["changed"] = True

    def forward(self, x):
        return self.inner(x) * self.scale


@persistence.persistent_class
class Inner(torch.nn.Linear):
    def __init__(self, size):
        super().__init__(size, size)


@persistence.persistent_class
class Deeper(Net):
    def __init__(self, twice):
        super().__init__(twice // 2)


class Ordinary(Net):
    pass


@persistence.persistent_class
class Slotted:
    __slots__ = ("value", "__dict__")

    def __init__(self):
        self.value = 1


@persistence.persistent_class
class Plain:
    def __init__(self, value=None):
        self.value = value


@persistence.persistent_class
class Selective:
    def __init__(self):
        self.handle = lambda: 0

    def __getstate__(self):
        return {**vars(self), "handle": None}


@persistence.persistent_class
class Empty:
    pass
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module made of SOURCE whose file is gone already, as is everything that pickles of it make."""
    path = tmp_path / "persistent_example.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "num_executions", 0, raising=False)
    monkeypatch.setattr(persistence, "_classes", {})
    modules_before = set(sys.modules)
    yield importlib.import_module("persistent_example")
    for name in set(sys.modules) - modules_before:
        if name.startswith(("persistent_example", "_persistent_")):
            del sys.modules[name]


@pytest.fixture
def hooks(monkeypatch):
    monkeypatch.setattr(persistence, "_hooks", [])


def forget(module):
    """Make this process as ignorant as a fresh one."""
    sys.modules.pop(module.__name__, None)
    persistence._classes.clear()


def round_trip(obj):
    return pickle.loads(pickle.dumps(obj))


def test_the_pickle_is_a_call_with_the_dict_of_the_contract(module):
    net = module.Net(2, options={"a": 1})
    function, (meta,) = net.__reduce_ex__(4)
    assert (function.__module__, function.__name__) == ("torch_utils.persistence", "_reconstruct_persistent_obj")
    assert set(meta) == {"type", "version", "module_src", "class_name", "state"}
    assert (meta["type"], meta["version"], meta["class_name"]) == ("class", 6, "Net")
    assert meta["module_src"] == SOURCE
    assert meta["state"] == net.__dict__
    assert meta["state"]["_init_args"] == (2,)
    assert meta["state"]["_init_kwargs"] == {"options": {"a": 1}}


def test_init_arguments_are_those_of_the_call_and_cannot_be_changed(module):
    options = {"a": [1]}
    net = module.Net(2, options=options, more=3)
    assert options["changed"]
    assert net.init_args == (2,)
    assert net.init_kwargs == {"options": {"a": [1]}, "more": 3}
    assert isinstance(net.init_kwargs, EasyDict)
    net.init_kwargs.options["a"].append(2)
    assert net.init_kwargs.options == {"a": [1]}


def test_the_class_stays_what_it_was(module):
    assert module.Net.__name__ == "Net"
    assert module.Net.__doc__ == "A network that changes its argument."
    assert module.Net.__init__.__wrapped__.__name__ == "__init__"
    assert isinstance(module.Deeper(4), module.Net)
    assert pickle.loads(pickle.dumps(module.Net)) is module.Net


def test_in_the_same_process_the_same_class_comes_back_and_nothing_is_executed(module):
    net = module.Net(2)
    for other in (round_trip(net), copy.deepcopy(net)):
        assert type(other) is module.Net
        assert type(other.inner) is module.Inner
        assert other.inner.weight is not net.inner.weight
        assert all(
            torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert sys.num_executions == 1


def test_elsewhere_the_source_is_executed_once_for_all_objects(module):
    net, x = module.Net(2), torch.randn(3, 2)
    data = pickle.dumps([net, module.Net(2), module.Plain(5)])
    forget(module)
    first, second, plain = pickle.loads(data)
    third = pickle.loads(data)[0]
    assert sys.num_executions == 2
    assert type(first) is type(second) is type(third) is not module.Net
    assert torch.equal(first(x), net(x))
    assert first.init_args == (2,)
    assert plain.value == 5


def test_what_was_read_can_be_written_again_and_again(module):
    data = pickle.dumps(module.Net(2))
    for _ in range(2):
        forget(module)
        net = pickle.loads(data)
        assert net.__reduce_ex__(4)[1][0]["module_src"] == SOURCE
        data = pickle.dumps(net)


def test_a_decorated_subclass_is_itself(module):
    deeper = round_trip(module.Deeper(4))
    assert type(deeper) is module.Deeper
    assert deeper.init_args == (4,)


def test_an_undecorated_subclass_pickles_in_the_ordinary_way(module):
    assert not is_persistent(module.Ordinary)
    ordinary = module.Ordinary(2)
    assert type(round_trip(ordinary)) is module.Ordinary
    assert b"_reconstruct_persistent_obj" in pickle.dumps(ordinary)  # its inner part


def test_plain_classes_and_classes_with_a_state_of_their_own(module):
    assert round_trip(module.Plain(value=[1])).value == [1]
    assert round_trip(module.Selective()).handle is None
    assert round_trip(module.Empty()).init_args == ()


def test_is_persistent(module):
    assert is_persistent(module.Net)
    assert is_persistent(module.Net(2))
    assert not is_persistent(torch.nn.Linear(1, 1))
    assert not is_persistent(3)


def test_an_import_hook_edits_or_replaces_the_dict(module, hooks):
    @persistence.import_hook
    def edit(meta):
        meta.state.value += 1

    persistence.import_hook(
        lambda meta: EasyDict(meta, module_src=meta.module_src.replace("class Plain", "class Other"))
    )
    persistence.import_hook(lambda meta: EasyDict(meta, class_name="Other"))
    other = round_trip(module.Plain(1))
    assert edit.__name__ == "edit"
    assert type(other).__name__ == "Other"
    assert other.value == 2
    with pytest.raises(ValueError, match="expected a function"):
        persistence.import_hook(3)


def test_a_nested_class_is_refused():
    class Nested:
        pass

    with pytest.raises(ValueError, match=r"Nested.*top level"):
        persistent_class(Nested)


@pytest.mark.parametrize("known", [True, False])
def test_a_class_without_source_is_refused(known, monkeypatch):
    module = ModuleType("made_up_module")
    if known:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("class A: pass", module.__dict__)
    with pytest.raises(ValueError, match=r"'A'.*'made_up_module'"):
        persistent_class(module.A)


def test_a_state_that_could_not_be_read_back_is_not_written(module):
    with pytest.raises(ValueError, match="Slotted: its state is a tuple, not a dict"):
        pickle.dumps(module.Slotted())


def test_an_argument_that_cannot_be_copied_is_refused_at_once(module):
    with pytest.raises(ValueError, match=r"Plain: a constructor argument cannot be copied.*generator"):
        module.Plain(value=(i for i in range(3)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 7}, "version 7"),
        ({"type": "function"}, "type 'function'"),
        ({"module_src": None}, "'module_src'"),
        ({"class_name": 3}, "'class_name'"),
        ({"state": []}, "'state'"),
        ({"class_name": "Absent"}, "no class 'Absent'"),
    ],
)
def test_a_malformed_dict_is_one_clear_line(module, change, words):
    meta = module.Plain(1).__reduce_ex__(4)[1][0]
    with pytest.raises(ValueError, match=words):
        persistence._reconstruct_persistent_obj({**meta, **change})


def test_reading_the_dict_executes_nothing(module):
    meta = module.Plain(1).__reduce_ex__(4)[1][0]
    forget(module)
    assert persistence.read_meta(meta).state.value == 1
    assert sys.num_executions == 1


def test_a_source_that_fails_leaves_no_module_behind(module):
    meta = module.Plain(1).__reduce_ex__(4)[1][0]
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        persistence._reconstruct_persistent_obj({**meta, "module_src": "1 / 0"})
    assert set(sys.modules) == before


@pytest.mark.slow
def test_a_fresh_process_reads_the_pickle(module, tmp_path):
    net = module.Net(2)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(net))
    (tmp_path / "persistent_example.py").unlink()
    code = (
        "import pickle, sys; net = pickle.load(open(sys.argv[1], 'rb'));"
        "print(type(net).__name__, net.init_args, net.inner.weight.tolist())"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "net.pkl")]
    done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"Net (2,) {net.inner.weight.tolist()}"
