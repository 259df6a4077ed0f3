import pytest

from training.run.status import STATUS_FILE, read_status


@pytest.mark.parametrize("content", ["", "[]", "{", "\0", "[" * 10**5])
def test_a_status_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / STATUS_FILE).write_text(content)
    assert read_status(tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": ["finished"], "kimg": "abc", "name": 5, "pid": "\\u001b[2J", "host": 3}',
        '{"kimg": NaN}',
        '{"kimg": 1e400}',
        f'{{"kimg": {"9" * 101}}}',
        "[1]",
        "[" * 100_000,
    ],
)
def test_a_status_holds_only_values_of_its_types(tmp_path, text):
    (tmp_path / STATUS_FILE).write_text(text)
    assert read_status(tmp_path) == {}
