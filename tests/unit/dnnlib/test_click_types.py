import click
import pytest

from dnnlib.click_types import FiniteFloat, FiniteRange, NameList, NumberList

SEEDS = NumberList(largest=2**32 - 1)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3", [0, 1, 2, 3]), ("7", [7]), ("3,1,1", [3, 1, 1]), ("9,2-3, 0", [9, 2, 3, 0]), ("4294967295", [2**32 - 1])],
)
def test_lists_of_numbers(text, numbers):
    assert SEEDS.convert(text, None, None) == numbers


@pytest.mark.parametrize(
    "text", ["", "1,", "-1", "1-", "a", "1.5", "3-1", "1-2-3", "4294967296", "0x1", "9" * 5000, "0-4294967295"]
)
def test_no_lists_of_numbers(text):
    with pytest.raises(click.BadParameter):
        SEEDS.convert(text, None, None)


def test_limit():
    with pytest.raises(click.BadParameter, match="10: give 0 to 9"):
        NumberList(largest=9).convert("3,10", None, None)


def test_names_may_have_blanks_and_repetitions():
    names = NameList(lambda: ["a", "b", "c"])
    assert names.convert(" b, a ,b", None, None) == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "said"), [("a,d", "'d'"), ("a,,b", "''"), ("\x1b[2J" + "x" * 200, r"'\\x1b\[2Jx{96}'")]
)
def test_unknown_names_are_refused_in_printable_text(text, said):
    with pytest.raises(click.BadParameter, match=f"^{said}: choose from a, b$"):
        NameList(lambda: ["a", "b"]).convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "x"])
def test_numbers_must_be_finite(text):
    with pytest.raises(click.BadParameter):
        FiniteFloat().convert(text, None, None)
    assert FiniteFloat().convert("-0.5", None, None) == -0.5


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "x", "-0.5"])
def test_ranges_are_of_finite_numbers(text):
    with pytest.raises(click.BadParameter):
        FiniteRange(min=0).convert(text, None, None)
    assert FiniteRange(min=0).convert("0.5", None, None) == 0.5
