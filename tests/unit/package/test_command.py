"""The command ``mscond``: the scripts under other names, with the same flags."""

import importlib.metadata
import re
import sys

import click
import pytest
from click.testing import CliRunner

import train
from dnnlib.commands import SUBCOMMANDS
from package.command import main
from tests.helpers import REPOSITORY

SCRIPTS = "|".join(re.escape(each.script) for each in SUBCOMMANDS.values() if each.script.endswith(".py"))


@pytest.fixture(autouse=True)
def _same_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="mscond")


def test_help_lists_all_commands():
    result = run("--help")
    assert result.exit_code == 0
    for name, subcommand in SUBCOMMANDS.items():
        assert f"\n  {name}" in result.output
        assert subcommand.summary.split()[0] in result.output


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_a_command_names_it_as_it_is_called_here(name):
    result = run(name, "--help")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: mscond {name} ")
    assert "python " not in result.output
    assert result.output.endswith(f"\n  Pages of the documentation: {REPOSITORY / 'docs'}\n")
    assert not re.search(rf"\b({SCRIPTS})", result.output)


def test_the_script_keeps_its_own_help():
    run("train", "--help")
    assert "python train.py" in train.main.help


def test_flags_are_those_of_the_script():
    with main.make_context("mscond", ["train"]) as context:
        command = main.get_command(context, "train")
    assert isinstance(command, click.Command)
    assert [param.name for param in command.params] == [param.name for param in train.main.params]


def test_errors_and_exit_status_pass_through():
    result = run("train", "--continue=nothing")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert run("no-such-command").exit_code == 2


@pytest.mark.parametrize("asked", ["dataset_tool", "dataset-tool", "dataset_tool.py"])
def test_scripts_are_found_by_their_names(asked):
    result = run(asked, "--source=scenes")
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: no command '{asked}': it is called mscond dataset"


def test_the_name_of_a_script_does_not_disturb_completion():
    with main.make_context("mscond", ["train.py", "--"], resilient_parsing=True) as context:
        assert context.params == {}


def test_version(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2 of {name}")
    assert run("--version").output == "mscond, version 1.2 of mscond\n"
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert run("--version").output == "mscond, of unknown version: it was copied, not installed\n"
