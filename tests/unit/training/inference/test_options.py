import click
import pytest
from click.testing import CliRunner

from generate import generate_images
from projector import run_projection
from style_mixing import generate_style_mix
from training.inference.export import export
from training.inference.options import SEEDS, NumberList


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3", [0, 1, 2, 3]), ("7", [7]), ("3,1,1", [3, 1, 1]), ("9,2-3, 0", [9, 2, 3, 0]), ("4294967295", [2**32 - 1])],
)
def test_lists_of_numbers(text, numbers):
    assert SEEDS.convert(text, None, None) == numbers


@pytest.mark.parametrize("text", ["", "1,", "-1", "1-", "a", "1.5", "3-1", "1-2-3", "4294967296", "0x1"])
def test_no_lists_of_numbers(text):
    with pytest.raises(click.BadParameter):
        SEEDS.convert(text, None, None)


def test_limit():
    with pytest.raises(click.BadParameter, match="10: give 0 to 9"):
        NumberList(largest=9).convert("3,10", None, None)


@pytest.mark.parametrize("command", [generate_images, generate_style_mix, run_projection, export])
def test_examples_in_help_can_be_copied(command):
    lines = CliRunner().invoke(command, ["--help"]).output.splitlines()
    examples = [line for line in lines if line.startswith("  ") and "python " in line and "--network=" in line]
    assert examples
    assert all(line.startswith("    python ") for line in examples)
