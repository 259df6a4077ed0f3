import dataclasses

import pytest

from training.run import description
from training.run.dataset_info import DatasetInfo
from training.run.description import describe_flags
from training.run.flags import Flags
from training.run.registry import configurations

CATS = DatasetInfo("cats", 32, 100, has_labels=True)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "cats-auto1"),
        ({"aug": "ada", "explicit": ("aug",)}, "cats-auto1-ada"),
        ({"aug": "noaug"}, "cats-auto1-noaug"),
        ({"cfg": "projected"}, "cats-projected"),  # whose own augmentation is another one
        ({"cfg": "projected", "aug": "ada"}, "cats-projected-ada"),
        ({"settings": {"lecam": 0.3}}, "cats-auto1-lecam"),
        ({"settings": {"lecam": 0.0}}, "cats-auto1"),
        ({"resume": "noresume"}, "cats-auto1-noresume"),
        ({"resume": "old/net.pkl", "desc": "again"}, "cats-auto1-resumecustom-again"),
    ],
)
def test_the_name_tells_what_was_chosen(flags, name):
    assert describe_flags(Flags(data="cats", **flags), CATS) == name


def test_the_name_tells_what_a_configuration_switches_on(monkeypatch):
    chosen = configurations()["stylegan2"]
    with_lecam = dataclasses.replace(chosen, defaults={"lecam": 0.3})
    monkeypatch.setattr(description, "configurations", lambda: {"stylegan2": with_lecam})
    assert describe_flags(Flags(data="cats", cfg="stylegan2"), CATS) == "cats-stylegan2-lecam"


@pytest.mark.parametrize("text", ["a/b", "a\nb"])
def test_a_text_that_is_no_part_of_a_folder_name(text):
    with pytest.raises(ValueError, match=r"^--desc='a.*b' is part of a folder name: use printable characters without"):
        describe_flags(Flags(data="cats", desc=text), CATS)
