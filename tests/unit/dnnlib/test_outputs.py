import os
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from dnnlib.outputs import check_replaceable_file, keep_inputs


def test_only_files_are_replaced(tmp_path):
    (tmp_path / "file").touch()
    check_replaceable_file(tmp_path / "file")
    check_replaceable_file(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(UserError, match="is not a regular file, and would be replaced: choose another name"):
            check_replaceable_file(path)


def test_inputs_are_kept_under_any_name(tmp_path):
    (tmp_path / "photo.png").touch()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    keep_inputs([tmp_path / "other.png", tmp_path / "photo.png"], network="https://example.com/photo.png")
    with pytest.raises(UserError, match=r"link/photo\.png would replace --projected-w=.*photo\.png: choose another"):
        keep_inputs([tmp_path / "link/photo.png"], projected_w=tmp_path / "photo.png")
