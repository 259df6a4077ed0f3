"""Runs that stand side by side are named shortly and apart."""

from pathlib import Path

import pytest

from training.run.page.names import distinct_names


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/00000-a"], ["00000-a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/a", "y/a", "y/b"], ["x/a", "y/a", "b"]),
        (["x/runs/a", "y/runs/a", "z/other/a"], ["x/runs/a", "y/runs/a", "other/a"]),
        (["/a", "/x/a"], ["/a", "x/a"]),
        (["x/a", "x/a"], ["a", "a"]),
    ],
)
def test_parents_are_named_where_names_repeat(folders, names):
    assert distinct_names([Path(folder) for folder in folders]) == names


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert distinct_names([Path(), Path("a")]) == [tmp_path.name, "a"]
