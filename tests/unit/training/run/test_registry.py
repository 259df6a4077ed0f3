from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

import train
from tests.helpers import REPOSITORY
from training.run import registry
from training.run.dataset_info import DatasetInfo
from training.run.options import Flags, resolve
from training.run.presets import PRESETS
from training.run.registry import Configuration, NoSettings, configurations, constant, setting, setting_values

DATASET = DatasetInfo(name="cars", resolution=64, num_images=10, has_labels=False)


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    configurations.cache_clear()
    yield
    configurations.cache_clear()


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    num_heads: int = setting(3, click.INT, "Heads of D.", "a paper")
    widths: list[int] = field(default_factory=lambda: [1, 2], metadata={"type": click.STRING, "help": "Their widths."})


@dataclass(frozen=True, kw_only=True)
class WeightSettings:
    weight: float | None = setting(None, click.FLOAT, "Weight.", "none")

    def __post_init__(self) -> None:
        if self.weight == 13:
            raise ValueError("weight: 13 is not allowed")


class EntryPoint:
    """An installed package."""

    def __init__(self, *found: Configuration) -> None:
        self.found = found

    def __str__(self) -> str:
        return "EntryPoint(theirs)"

    def load(self) -> tuple[Configuration, ...]:
        return self.found


def install(monkeypatch: pytest.MonkeyPatch, *found: Configuration) -> None:
    packages = {"mscond.configurations": [EntryPoint(*found)]}
    monkeypatch.setattr(registry, "entry_points", lambda group: packages.get(group, []))


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
        assert (dict(found.D_kwargs), dict(found.loss_kwargs), found.settings) == ({}, {}, {})


def test_an_installed_package_adds_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = configuration(
        "theirs",
        discriminator="theirs.D",
        loss="theirs.Loss",
        D_kwargs={"fixed": 1, "conv_clamp": 8},
        loss_kwargs={"also": 2},
        D_settings=HeadSettings,
        loss_settings=WeightSettings,
    )
    install(monkeypatch, ours, configuration("plain"))
    assert list(configurations())[-2:] == ["theirs", "plain"]
    options = resolve(Flags(data="x", cfg="theirs", settings={"weight": 5}), DATASET)
    D_kwargs, loss_kwargs = options["D_kwargs"], options["loss_kwargs"]
    assert (D_kwargs["class_name"], loss_kwargs["class_name"]) == ("theirs.D", "theirs.Loss")
    assert (D_kwargs["fixed"], D_kwargs["num_heads"], D_kwargs["conv_clamp"]) == (1, 3, 8)
    assert D_kwargs["widths"] == [1, 2]
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
    said = rf"^--cfg={name} is defined by both .+ and EntryPoint\(theirs\); rename or remove one of the methods$"
    with pytest.raises(ValueError, match=said):
        configurations()


def test_settings_become_flags_with_defaults_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, configuration("theirs", D_settings=HeadSettings, loss_settings=WeightSettings))
    command = click.Command("train", params=train.method_options())
    records = dict(option.get_help_record(click.Context(command)) for option in command.params)
    assert records["--num-heads INTEGER"] == "Heads of D.  [default: 3; a paper]"
    assert records["--widths TEXT"] == "Their widths.  [default: 1,2]"
    assert records["--weight FLOAT"] == "Weight.  [default: none]"
    with command.make_context("train", ["--num-heads=5"]) as context:
        assert (context.params["num_heads"], context.params["weight"]) == (5, None)


def test_values_of_settings() -> None:
    assert setting_values(NoSettings, {"num_heads": 5}) == {}
    assert setting_values(HeadSettings, {}) == {"num_heads": 3, "widths": [1, 2]}
    assert setting_values(HeadSettings, {"num_heads": 5, "weight": 1}) == {"num_heads": 5, "widths": [1, 2]}
    with pytest.raises(ValueError, match="weight: 13 is not allowed"):
        setting_values(WeightSettings, {"weight": 13})


def test_a_method_may_refuse_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(kwargs: Mapping[str, Any]) -> None:
        if kwargs["batch_gpu"] < 8:
            raise ValueError("too few")

    install(monkeypatch, configuration("theirs", check=check))
    with pytest.raises(ValueError, match="too few"):
        resolve(Flags(data="x", cfg="theirs", batch_gpu=4, mbstd_group=4), DATASET)
    assert resolve(Flags(data="x", cfg="theirs", batch_gpu=16), DATASET)["batch_gpu"] == 16


def test_flags_are_known_without_torch() -> None:
    """So that --help is quick."""
    code = "import sys, train, training.run.options; from training.run.registry import configurations\nconfigurations()"
    check = "assert not {'torch', 'scipy', 'PIL'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-W", "error", "-c", f"{code}\n{check}"], cwd=REPOSITORY, check=True)
