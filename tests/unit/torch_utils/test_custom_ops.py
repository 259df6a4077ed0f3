import pytest

from torch_utils import custom_ops


@pytest.fixture
def builds(monkeypatch):
    """Calls of a stand-in for the compiler."""
    builds = []

    def load(**kwargs):
        builds.append(kwargs)
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
    assert builds == [{"name": "p", "sources": ["a.cpp", "b.cu"], "extra_cflags": ["-O3"], "verbose": verbose}]
    assert capsys.readouterr().out == output


def test_an_unknown_verbosity_is_refused(builds, monkeypatch):
    monkeypatch.setattr(custom_ops, "verbosity", "loud")
    with pytest.raises(ValueError, match="'loud', expected 'none', 'brief' or 'full'"):
        custom_ops.get_plugin("p", sources=[])
    assert builds == []
