from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import REPOSITORY
from training.run import registry
from training.run.options import DatasetInfo, Flags, resolve
from training.run.presets import PRESETS
from training.run.registry import Configuration, Setting, configurations, constant

DATASET = DatasetInfo(name="cars", resolution=64, num_images=10, has_labels=False)


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    configurations.cache_clear()
    yield
    configurations.cache_clear()


class EntryPoint:
    """What an installed package announces."""

    def __init__(self, *found: Configuration) -> None:
        self.found = found

    def load(self) -> tuple[Configuration, ...]:
        return self.found


def install(monkeypatch: pytest.MonkeyPatch, *found: Configuration) -> None:
    packages = {"mscond.configurations": [EntryPoint(*found)]}
    monkeypatch.setattr(registry, "entry_points", lambda group: packages[group])


def configuration(name: str, **kwargs: Any) -> Configuration:
    return Configuration(name=name, preset=constant(PRESETS["paper256"]), **kwargs)


def test_configurations_of_a_plain_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    names = list(configurations())
    assert names[0] == "auto"
    assert {"stylegan2", "paper256", "paper512", "paper1024", "cifar", "msconD", "multiscale"} <= set(names)
    for name, preset in PRESETS.items():
        found = configurations()[name]
        assert found.preset(64, 3) is preset
        assert (found.discriminator, found.loss) == ("training.networks.Discriminator", "training.loss.StyleGAN2Loss")
        assert (dict(found.D_kwargs), dict(found.loss_kwargs), found.settings) == ({}, {}, ())


def test_an_installed_package_adds_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"help": "", "parse": int}
    settings = (
        Setting(flag="--num-heads", target="D_kwargs", key="num_heads", default=3, **flags),
        Setting(flag="--weight", target="loss_kwargs", key="weight", default=1, **flags),
    )
    ours = configuration(
        "theirs",
        discriminator="theirs.D",
        loss="theirs.Loss",
        D_kwargs={"fixed": 1, "conv_clamp": 8},
        loss_kwargs={"also": 2},
        settings=settings,
    )
    install(monkeypatch, ours, configuration("plain"))
    assert list(configurations())[-2:] == ["theirs", "plain"]
    _, options = resolve(Flags(data="x", cfg="theirs", settings={"weight": 5}), DATASET)
    D_kwargs, loss_kwargs = options["D_kwargs"], options["loss_kwargs"]
    assert (D_kwargs["class_name"], loss_kwargs["class_name"]) == ("theirs.D", "theirs.Loss")
    assert (D_kwargs["fixed"], D_kwargs["num_heads"], D_kwargs["conv_clamp"]) == (1, 3, 8)
    assert (loss_kwargs["also"], loss_kwargs["weight"], loss_kwargs["r1_gamma"]) == (2, 5, 1)


def test_a_folder_beside_training_adds_configurations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch)
    for name, is_package in [("some_method", True), ("no_package", False)]:
        (tmp_path / name).mkdir()
        imports = "from training.run.registry import *"
        source = f"{imports}\nCONFIGURATIONS = [Configuration(name='{name}', preset=auto_preset)]\n"
        (tmp_path / name / "config.py").write_text(source)
        if is_package:
            (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "training" / "run" / "registry.py"))
    assert set(configurations()) == {"auto", *PRESETS, "some_method"}


@pytest.mark.parametrize("name", ["auto", "cifar", "msconD"])
def test_two_configurations_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(monkeypatch, configuration(name))
    with pytest.raises(ValueError, match=rf"^--cfg={name} is defined twice; rename or uninstall one of the methods$"):
        configurations()


def test_a_flag_is_a_python_name_too() -> None:
    setting = Setting(flag="--con-pos-dist", target="loss_kwargs", key="x", default=1, help="")
    assert setting.parameter == "con_pos_dist"
    assert setting.parse("text") == "text"


def test_flags_are_known_without_torch() -> None:
    """So that --help is quick."""
    code = "import sys, train, training.run.options; from training.run.registry import configurations\nconfigurations()"
    check = "assert not {'torch', 'scipy', 'PIL'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-W", "error", "-c", f"{code}\n{check}"], cwd=REPOSITORY, check=True)
