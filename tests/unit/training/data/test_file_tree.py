import itertools
import os
import socket
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from tests.image_files import write_folder
from training.data.file_tree import BROKEN_LINK, LISTED_TWICE, NOT_REGULAR, UNREADABLE, list_files


def files(path):
    return sorted(list_files(path).files)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set", {"a.png": b"a", "cat/b.png": b"b", ".git/c.png": b"c"})


def test_lists_all_files(folder):
    assert files(folder) == [".git/c.png", "a.png", "cat/b.png"]
    assert list_files(folder).ignored == {}


def test_follows_links_to_files_and_folders(folder, tmp_path):
    elsewhere = write_folder(tmp_path / "elsewhere", {"d.png": b"d", "deep/e.png": b"e"})
    (folder / "dog").symlink_to(elsewhere)
    (folder / "f.png").symlink_to(elsewhere / "d.png")
    assert files(folder) == [".git/c.png", "a.png", "cat/b.png", "dog/d.png", "dog/deep/e.png", "f.png"]


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert files(tmp_path / "link") == files(folder)


def test_a_link_that_leads_round_in_a_circle_is_ignored(folder):
    (folder / "cat/up").symlink_to(folder)
    tree = list_files(folder)
    assert len(tree.files) == 3
    assert tree.ignored == {LISTED_TWICE: ["cat/up"]}


def test_links_do_not_multiply(tmp_path):
    levels = [tmp_path / str(level) for level in range(40)]
    for level in levels:
        level.mkdir()
    for level, next_level in itertools.pairwise(levels):
        (level / "left").symlink_to(next_level)
        (level / "right").symlink_to(next_level)
    (levels[-1] / "a.png").touch()
    assert files(levels[0]) == ["left/" * 39 + "a.png"]


def test_real_folders_win_over_links_to_them(folder):
    (folder / "ape").symlink_to(folder / "cat")
    assert files(folder) == [".git/c.png", "a.png", "cat/b.png"]


def test_what_is_no_regular_file_is_ignored(folder, monkeypatch):
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "self.png").symlink_to("self.png")
    monkeypatch.chdir(folder)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.png")
    tree = list_files(folder)
    assert len(tree.files) == 3
    assert {reason: sorted(names) for reason, names in tree.ignored.items()} == {
        NOT_REGULAR: ["pipe.png", "socket.png", "zero.png"],
        BROKEN_LINK: ["gone.png", "self.png"],
    }


def refuse_to_list(monkeypatch, name):
    scandir = os.scandir

    def scandir_with_refusal(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_with_refusal)


def test_a_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch):
    refuse_to_list(monkeypatch, "cat")
    with pytest.raises(UserError, match="cat cannot be listed: Permission denied"):
        list_files(folder)


def test_unless_it_is_hidden(folder, monkeypatch):
    refuse_to_list(monkeypatch, ".git")
    tree = list_files(folder)
    assert sorted(tree.files) == ["a.png", "cat/b.png"]
    assert tree.ignored == {UNREADABLE: [".git"]}
