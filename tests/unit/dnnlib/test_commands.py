"""The table of commands names what there is; messages name scripts in a checkout, commands where it is installed."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnnlib import commands
from tests.helpers import REPOSITORY, repository_files

OF_A_CHECKOUT = ("tests/", "benchmarks/", "baselines/", "training/data/scenes/", "msconD/attach.py", "build_backend.py")
"""What is not called by command where the package is installed."""
THAT_TRANSLATE = ("dnnlib/commands.py", "package/card.py", "package/command.py")
SCRIPTS = "|".join(re.escape(each.script) for each in commands.SUBCOMMANDS.values())


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
    assert commands.how_to_run("other.py", "--data=my photos", "--n=1") == "python other.py '--data=my photos' --n=1"


def test_in_another_folder(tmp_path, monkeypatch):
    """What is suggested can be pasted wherever the user is."""
    monkeypatch.chdir(tmp_path)
    said = commands.how_to_run("train.py", "--dry-run", "--data=my photos")
    assert said == f"python {REPOSITORY}/train.py --dry-run '--data=my photos'"
    command = commands.how_to_run("-m dnnlib.commands").replace(" python ", f" {sys.executable} ")
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert Path(commands.page("metrics.md")).is_file()
    assert commands.how_to_install("video") == f"pip install '{REPOSITORY}[video]'"
    monkeypatch.setattr(commands, "_FOLDER", tmp_path / "of mine")
    assert commands.how_to_run("train.py") == f"python '{tmp_path}/of mine/train.py'"


def test_in_a_folder_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert commands.how_to_run("train.py") == f"python {REPOSITORY}/train.py"


def test_how_to_install(monkeypatch):
    assert commands.how_to_install("video") == "pip install '.[video]'"
    monkeypatch.setattr(commands, "IS_INSTALLED", True)
    requirements = ["torch>=2.10", 'imageio; extra == "video"', "a==1 ; extra == 'video'", 'wandb; extra == "wandb"']
    monkeypatch.setattr(importlib.metadata, "requires", {"mscond": requirements}.get)
    assert commands.how_to_install("video") == "pip install imageio a==1"
    assert commands.how_to_install("hub") == "pip install 'mscond[hub]'"


def test_pages(monkeypatch):
    assert commands.page("metrics.md") == "docs/metrics.md"
    monkeypatch.setattr(commands, "IS_INSTALLED", True)
    assert Path(commands.page("metrics.md")).is_absolute()
    assert Path(commands.page("metrics.md")).is_file()


def test_how_to_install_without_metadata(monkeypatch):
    def fail(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(commands, "IS_INSTALLED", True)
    monkeypatch.setattr(importlib.metadata, "requires", fail)
    assert commands.how_to_install("video") == "pip install 'mscond[video]'"


def texts(tree: ast.Module) -> Iterator[str]:
    """The texts in a module that are no docstrings; click's helps are docstrings, whose commands are renamed."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_messages_ask_how_a_script_is_called_and_a_package_installed():
    named = {}
    for name in repository_files():
        if name.endswith(".py") and not name.startswith(OF_A_CHECKOUT + THAT_TRANSLATE):
            tree = ast.parse((REPOSITORY / name).read_text())
            named[name] = [text for text in texts(tree) if re.search(rf"python ({SCRIPTS})|pip install '\.\[", text)]
    assert {name: found for name, found in named.items() if found} == {}
