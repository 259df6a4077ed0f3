import click
import pytest

from training.inference.truncation import Sweep, Truncation


def test_ranges_of_psi():
    trunc = Truncation()
    assert trunc.convert("0.7", None, None) == trunc.convert(0.7, None, None) == 0.7
    assert trunc.convert("0:1", None, None) == Sweep(0, 1, None)
    assert trunc.convert("-0.5:0.7:3", None, None) == Sweep(-0.5, 0.7, 3)


@pytest.mark.parametrize("text", ["0:", ":1", "0:1:1", "0:1:x", "0:1:2:3", "0:nan", "0:1:" + "9" * 5000, "0:1:\u0663"])
def test_no_ranges_of_psi(text):
    with pytest.raises(click.BadParameter):
        Truncation().convert(text, None, None)
