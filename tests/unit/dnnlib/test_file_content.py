import hashlib

import pytest

from dnnlib import file_content
from tests.image_files import LFS_POINTER


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "an empty file"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "a web page"),
        (LFS_POINTER, "a Git LFS pointer, whose file comes by git lfs pull"),
    ],
)
def test_what_lies_in_place_of_a_file_is_named(tmp_path, content, fault):
    (tmp_path / "file").write_bytes(content)
    assert file_content.content_fault(tmp_path / "file") == fault


def test_binary_files_are_no_web_pages(tmp_path):
    for content in (b"<a\0\0\0\0\0\0{}", b"\x80\x02}.", b"PK\3\4", b'{"a": 1}'):
        (tmp_path / "file").write_bytes(content)
        assert file_content.content_fault(tmp_path / "file") is None


def test_checksum(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_content.sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
