from __future__ import annotations

import pytest

from dnnlib.errors import UserError, describe


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--data: no such folder"), "--data: no such folder"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (RuntimeError("no memory: 3 GiB\nsecond line"), "RuntimeError: no memory: 3 GiB"),
    ],
)
def test_an_error_is_one_line_with_its_type_unless_the_user_made_it(error, line):
    assert describe(error) == line
