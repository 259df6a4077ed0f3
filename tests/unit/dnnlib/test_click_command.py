from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dnnlib.click_command import Command

IS_URL = "is a URL; give a path on this machine, and copy the files yourself"


@click.command(cls=Command)
@click.option("--mirror", type=bool)
@click.option("--kimg", type=click.IntRange(min=1))
@click.option("--num", type=click.IntRange(1, 9))
@click.option("--rate", type=click.FloatRange(0, 1, min_open=True))
@click.option("--name")
@click.option("--fast", is_flag=True)
@click.option("--outdir", "-o", type=click.Path(file_okay=False, path_type=Path))
def command(**values):
    click.echo(values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mirror"], "--mirror needs a value: give 1 or 0, such as --mirror=1"),
        (["--mirror", "--kimg=1"], "Invalid value for '--mirror': '--kimg=1': give 1 or 0, such as --mirror=1"),
        (["--kimg"], "--kimg needs a value: give a whole number from 1"),
        (["--kimg=0.5"], "Invalid value for '--kimg': '0.5': give a whole number from 1"),
        (["--kimg=0"], "Invalid value for '--kimg': 0 is not in the range x>=1."),
        (["--num=x"], "Invalid value for '--num': 'x': give a whole number from 1 to 9"),
        (["--rate=x"], "Invalid value for '--rate': 'x': give a number above 0 to 1"),
        (["--name"], "Option '--name' requires an argument."),
        (["--fast=1"], "Option '--fast' does not take a value."),
        (["--outdir="], "Invalid value for '--outdir' / '-o': it is empty; give a path, or leave the flag out"),
        (["--outdir", ""], "Invalid value for '--outdir' / '-o': it is empty; give a path, or leave the flag out"),
        (
            ["--mirror="],
            "Invalid value for '--mirror': it is empty; give 1 or 0, such as --mirror=1, or leave the flag out",
        ),
        (
            ["--mirror", ""],
            "Invalid value for '--mirror': it is empty; give 1 or 0, such as --mirror=1, or leave the flag out",
        ),
        (["-o", "", "--fast"], "Invalid value for '--outdir' / '-o': it is empty; give a path, or leave the flag out"),
        (["--outdir=s3://a/b"], f"Invalid value for '--outdir' / '-o': s3://a/b {IS_URL}"),
        (["-o", "https://a/b.zip"], f"Invalid value for '--outdir' / '-o': https://a/b.zip {IS_URL}"),
    ],
)
def test_errors_say_what_is_allowed(arguments, said):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: {said}"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("loop", "loop: its links lead in a circle; give the file itself"),
        ("file/x", "file/x: a file stands where a folder is needed; choose another path"),
        ("a" * 300, "aaa...: the name is too long; choose a shorter one"),
    ],
)
def test_paths_that_cannot_be_used_are_refused(tmp_path, monkeypatch, path, said):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    result = CliRunner().invoke(command, [f"--outdir={path}"])
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: Invalid value for '--outdir' / '-o': ")
    assert last.endswith(said)


def test_paths_that_are_not_there_yet_are_taken(tmp_path):
    assert CliRunner().invoke(command, [f"--outdir={tmp_path / 'a/b'}"]).exit_code == 0


def test_only_paths_and_booleans_must_not_be_empty():
    result = CliRunner().invoke(command, ["--name=", "--outdir=.", "--name", ""])
    assert (result.exit_code, "'name': ''" in result.output) == (0, True)


def test_only_paths_must_not_be_urls():
    result = CliRunner().invoke(command, ["--name", "https://a/b"])
    assert (result.exit_code, "'name': 'https://a/b'" in result.output) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dest="], "Invalid value for '--dest': it is empty; give a path"),
        (["--dest=a", "b", ""], "Invalid value for 'RUN...': it is empty; give a path"),
        (["--dest=a", "b", "gs://c"], f"Invalid value for 'RUN...': gs://c {IS_URL}"),
    ],
)
def test_what_must_be_given_must_be_a_path(arguments, said):
    @click.command(cls=Command)
    @click.option("--dest", type=click.Path(), required=True)
    @click.argument("runs", metavar="RUN...", nargs=-1, type=click.Path())
    def command(**values):
        pass

    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: {said}")


def test_what_is_allowed_is_taken():
    assert "'mirror': True, 'kimg': 2" in CliRunner().invoke(command, ["--mirror=1", "--kimg=2"]).output
