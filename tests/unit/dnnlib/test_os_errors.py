import errno
import os

import pytest

from dnnlib.os_errors import describe_os_error, path_fault


def failing(number, *filename):
    return OSError(number, os.strerror(number), *filename)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "permission denied; change its permissions, or choose another place"),
        (errno.EISDIR, "this is a folder; give a file"),
        (errno.ENOTDIR, "a file stands where a folder is needed; choose another path"),
        (errno.ENAMETOOLONG, "the name is too long; choose a shorter one"),
        (errno.EROFS, "the file system is read-only; choose another place"),
        (errno.ENOSPC, "no space is left; free some, or choose another place"),
        (errno.EMFILE, "too many files are open; close other programs, or raise the limit (ulimit -n)"),
    ],
)
def test_errors_in_words(number, said):
    assert describe_os_error(failing(number, "out/a.png")) == f"out/a.png cannot be read or written: {said}"
    assert describe_os_error(failing(number)) == said


def test_names_are_printable():
    assert describe_os_error(failing(errno.EACCES, "a\x1b[2J")).startswith("'a\\x1b[2J' cannot")


def test_other_errors_keep_their_text():
    assert describe_os_error(OSError("no images")) == "no images"
    assert describe_os_error(failing(errno.EPIPE)) == "[Errno 32] Broken pipe"


def test_what_a_library_says_is_kept():
    said = "No usable temporary directory found in ['/tmp']"
    assert describe_os_error(FileNotFoundError(errno.ENOENT, said)) == said


def test_a_path_that_can_be_used_or_is_not_there(tmp_path):
    assert path_fault(tmp_path) is None
    assert path_fault(str(tmp_path / "missing")) is None


def test_paths_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    assert path_fault(tmp_path / "loop") == f"{tmp_path / 'loop'}: its links lead in a circle; give the file itself"
    assert path_fault(f"{tmp_path}/file/x").endswith(
        "file/x: a file stands where a folder is needed; choose another path"
    )
    assert path_fault("a" * 300) == f"{'a' * 100}...: the name is too long; choose a shorter one"
    monkeypatch.setattr("os.access", lambda *_arguments: False)  # as root may read everything
    assert path_fault(tmp_path) == f"{tmp_path}: permission denied; change its permissions, or choose another place"
