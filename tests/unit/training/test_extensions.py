"""The example of docs/extending.md: a method that touches no file outside its own folder."""

import re
import sys
import types

import pytest
import torch

import train
from tests.helpers import REPOSITORY
from tests.training_runs import assert_same_outcome, make_trainer, tiny_options, train_here, write_dataset
from training.extensions import Extension, Participant
from training.run import registry
from training.run.dataset_info import DatasetInfo
from training.run.description import describe_flags
from training.run.options import Flags, resolve
from training.run.roles import check_class_names


@pytest.fixture
def mymethod(monkeypatch):
    """The modules of the example, announced as an installed package would announce them."""
    text = (REPOSITORY / "docs/extending.md").read_text()
    sources = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    modules = {}
    for name, source in zip(("config", "extension"), sources, strict=True):
        modules[name] = types.ModuleType(f"mymethod.{name}")
        monkeypatch.setitem(sys.modules, f"mymethod.{name}", modules[name])
        exec(compile(source, f"mymethod/{name}.py", "exec"), vars(modules[name]))
    monkeypatch.setitem(sys.modules, "mymethod", types.ModuleType("mymethod"))
    entry_point = types.SimpleNamespace(load=lambda: modules["config"].EXTENSIONS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry_point] if group == "mscond.extensions" else [])
    registry.extensions.cache_clear()
    yield modules
    registry.extensions.cache_clear()


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data.zip", num=12)


def test_the_example_has_a_flag(mymethod):
    assert "logit_decay" in train.method_settings()
    assert train.setting_headings()["logit_decay"] == "Options for any --cfg"
    info = DatasetInfo("data", 32, 100, has_labels=False)
    flags = Flags(data="", settings={"logit_decay": 0.5})
    description, kwargs = describe_flags(flags, info), resolve(flags, info)
    assert description.endswith("-logit_decay")
    assert kwargs["extension_kwargs"] == [{"class_name": "mymethod.extension.LogitDecay", "logit_decay": 0.5}]
    check_class_names({**kwargs, "training_set_kwargs": kwargs["training_set_kwargs"]}, "options", is_trusted=False)
    assert "extension_kwargs" not in resolve(Flags(data="", settings={"logit_decay": 0.0}), info), "its default"


@pytest.mark.parametrize("cfg", ["auto", *(pytest.param(cfg, marks=pytest.mark.slow) for cfg in ("msconD", "insgen"))])
def test_the_example_changes_training(mymethod, data, tmp_path, cfg):
    logits = {}
    for weight in (0.0, 1.0):
        scales = {"scales": [1, 8]} if cfg == "msconD" else {}
        options = tiny_options(data, 12, cfg=cfg, aug="noaug", settings={"logit_decay": weight, **scales})
        trainer = make_trainer(tmp_path / f"{cfg}{weight}", options)
        trainer.run()
        with torch.no_grad():
            output = trainer.state.D(torch.randn([8, 3, 16, 16]), torch.zeros([8, trainer.state.D.c_dim]))
        logits[weight] = float(output.abs().mean())
    assert logits[1.0] != logits[0.0]


class Remembering(Extension):
    """Has a network, trained with D, and counts iterations."""

    def __init__(self, extended_loss, batch_size):
        super().__init__(extended_loss, batch_size)
        self.network = torch.nn.Linear(1, 1)
        self.calls = []
        self.total = torch.zeros([])

    def networks(self):
        return {"memory": self.network}

    def trained_with(self, network):
        return [self.network] if network == "D" else []

    def begin_iteration(self):
        self.calls.append("begin")

    def end_iteration(self, batch_idx):
        self.calls.append(batch_idx)
        self.total += batch_idx

    def discriminator_term(self, kind, logits, img):
        return self.network(img.mean(dim=[1, 2, 3])[:, None])[:, 0]

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


@pytest.fixture
def remembering(monkeypatch, data):
    monkeypatch.setattr(sys.modules[__name__], "Remembering", Remembering, raising=False)
    return {"extension_kwargs": [{"class_name": f"{__name__}.Remembering"}]}


def test_networks_are_trained_saved_and_restored(remembering, data, tmp_path):
    options = {**tiny_options(data, 16, aug="noaug"), **remembering}
    trainer = make_trainer(tmp_path / "whole", options)
    (extension,) = trainer.state.loss.extensions
    before = extension.network.weight.clone()
    assert trainer.run()
    assert not torch.equal(extension.network.weight, before)
    assert extension.calls == ["begin", 1, "begin", 2, "begin", 3, "begin", 4]
    assert "memory" in trainer.state.networks()
    assert not train_here(tmp_path / "parts", options, abort_fn=lambda: True)
    continued = make_trainer(tmp_path / "parts", options)
    assert 0 < float(continued.state.loss.extensions[0].total) < 10
    assert continued.run()
    assert float(continued.state.loss.extensions[0].total) == 10
    assert_same_outcome(tmp_path / "parts", tmp_path / "whole")


def test_hooks_do_nothing_by_default():
    participant = Participant()
    assert participant.networks() == {}
    assert participant.trained_with("G") == []
    participant.begin_iteration()
    participant.end_iteration(1)
    participant.load_state_dict(participant.state_dict())
    extension = Extension(None, 4)
    img = torch.zeros([1])
    with extension.during("Dmain"):
        assert extension.replace_real(img) is img
    assert extension.discriminator_term("real", {}, img) is None


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="logit_decya"):
        Extension(None, 4, logit_decya=1)
