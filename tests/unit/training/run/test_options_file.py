import json

import pytest

from dnnlib.errors import UserError
from training.run.options_file import OPTIONS_FILE, read_options, write_options


def test_options_come_back(tmp_path):
    options = {"total_kimg": 0.1, "ema_rampup": None, "G_kwargs": {"w_dim": 4}, "metrics": ["x"]}
    write_options(tmp_path, options)
    assert read_options(tmp_path) == options
    assert json.loads((tmp_path / OPTIONS_FILE).read_text()) == options


@pytest.mark.parametrize("content", [b"", b'{"num_gpus": 1', b"\xff", b"[1]", b"[" * 10**5, b" " * (2 << 20)])
def test_damaged_options(tmp_path, content):
    (tmp_path / OPTIONS_FILE).write_bytes(content)
    with pytest.raises(UserError, match=f"{OPTIONS_FILE}"):
        read_options(tmp_path)


def test_a_run_of_the_reference_cannot_be_continued(tmp_path):
    (tmp_path / OPTIONS_FILE).write_text('{"num_gpus": 1, "run_dir": "runs/00000-x"}')
    with pytest.raises(
        UserError, match=r"is not of this train\.py; start a new run with --resume=<snapshot\.pkl> instead$"
    ):
        read_options(tmp_path)
