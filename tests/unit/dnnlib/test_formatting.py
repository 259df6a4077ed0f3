import pytest

from dnnlib.formatting import format_number, format_time, plural


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (12.4, "12s"),
        (59.6, "1m 00s"),
        (65, "1m 05s"),
        (3599, "59m 59s"),
        (3723, "1h 02m 03s"),
        (86399, "23h 59m 59s"),
        (86400 + 7380, "1d 02h 03m"),
    ],
)
def test_format_time(seconds, text):
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123456, 4, "0.1235"), (12.3456, 4, "12.35"), (123.456, 4, "123.5"), (9999.4, 4, "9999"),
        (-9999.6, 4, "-10000"),
        (1039.7, 3, "1040"), (999.5, 3, "1000"), (123456.7, 2, "123457"), (1e30, 4, "1e+30"),
    ],
)  # fmt: skip
def test_large_numbers_are_written_out(value, digits, text):
    assert format_number(value, digits) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2, "image", "2 images"), (1, "class", "1 class")],
)
def test_plural(count, noun, text):
    assert plural(count, noun) == text
    assert plural(2, "class") == "2 classes"
