from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from generate import generate_images
from projector import run_projection
from style_mixing import generate_style_mix
from torch_utils.launch import ProcessError
from training.inference.export import export
from training.inference.options import errors_in_one_line, suggest


def test_suggestions_can_be_copied_into_a_shell(capsys):
    suggest("generate.py", Path("a b.pkl"), "out", "--seeds=0-3")
    assert capsys.readouterr().out == "Next: python generate.py '--network=a b.pkl' --outdir=out --seeds=0-3\n"


def test_the_end_of_another_process_is_a_line():
    @click.command()
    @errors_in_one_line()
    def command():
        raise ProcessError("rank 1 of 2 failed: process 1 terminated with signal SIGKILL")

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert result.stderr == "Error: rank 1 of 2 failed: process 1 terminated with signal SIGKILL\n"


@pytest.mark.parametrize("flags", [["--class=cat"], []])
def test_a_name_that_is_too_long_for_a_file_is_a_line(tmp_path, flags):
    arguments = [f"--network={'a' * 300}", *flags, "--seeds=0", f"--outdir={tmp_path}"]
    result = CliRunner().invoke(generate_images, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [generate_images, generate_style_mix, run_projection, export])
def test_examples_in_help_can_be_copied(command):
    lines = CliRunner().invoke(command, ["--help"]).output.splitlines()
    examples = [line for line in lines if line.startswith("  ") and "python " in line and "--network=" in line]
    assert examples
    assert all(line.startswith("    python ") for line in examples)
