import os
from pathlib import Path

import pytest

from dnnlib.outputs import check_replaceable_file
from dnnlib.util import UserError


def test_only_files_are_replaced(tmp_path):
    (tmp_path / "file").touch()
    check_replaceable_file(tmp_path / "file")
    check_replaceable_file(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(UserError, match="is not a regular file, and would be replaced: choose another name"):
            check_replaceable_file(path)
