"""The table of commands names what there is; messages name scripts in a checkout, commands where it is installed."""

import importlib

import pytest

from dnnlib import commands
from tests.helpers import repository_files


def test_every_script_is_a_command():
    scripts = {name for name in repository_files() if name.endswith(".py") and "/" not in name}
    assert scripts == {each.script for each in commands.SUBCOMMANDS.values() if not each.script.startswith("-m ")}


@pytest.mark.parametrize("name", commands.SUBCOMMANDS)
def test_functions_exist(name):
    subcommand = commands.SUBCOMMANDS[name]
    assert callable(getattr(importlib.import_module(subcommand.module), subcommand.function))


@pytest.mark.parametrize(
    ("script", "command"), [("train.py", "mscond train"), ("-m training.inference.export", "mscond export")]
)
def test_how_to_run(monkeypatch, script, command):
    assert commands.how_to_run(script) == f"python {script}"
    monkeypatch.setattr(commands, "IS_INSTALLED", True)
    assert commands.how_to_run(script) == command
    assert commands.how_to_run("other.py") == "python other.py"
