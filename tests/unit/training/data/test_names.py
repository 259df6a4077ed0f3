import pickle
import random

import numpy as np
import pytest

from training.data.names import _HIDDEN as HIDDEN
from training.data.names import Names, encode_name, is_hidden, shown, some

LIST = sorted(["a/1.png", "a/2.PNG", "b.jpg", "b/c/d.png", "\u00e4/\u4e16.png", "broken\udcff.png", ""])


def names_of(strings):
    return Names.of([encode_name(name) for name in sorted(strings)])


def test_is_a_sequence_of_strings():
    names = names_of(LIST)
    assert names == LIST
    assert [names[index] for index in range(-len(LIST), len(LIST))] == [*LIST, *LIST]
    assert [names[1:3], names[:0], names[::-1]] == [LIST[1:3], [], LIST[::-1]]
    assert len(names_of([])) == 0


def test_finds_by_name():
    names = names_of(LIST)
    assert [names.find(name) for name in LIST] == list(range(len(LIST)))
    assert "a/1.png" in names
    assert not {"a/1.pn", "zzz", 3} & set(names)
    assert names.find("zzz") is None
    assert 3 not in names


def test_pickles_in_one_block():
    names = names_of(f"{number:09d}.png" for number in range(10_000))
    data = pickle.dumps(names)
    assert pickle.loads(data) == names
    assert len(data) < 10_000 * (14 + 8) + 1000


class CountingPattern:
    num_calls = 0

    def search(self, name):
        CountingPattern.num_calls += 1
        return HIDDEN.search(name)


PARTS = [
    "a",
    "..b",
    ".",
    ".c",
    ".-",
    "__MACOSX",
    "__macosx",
    "x__macosx",
    "__MACOSX2",
    "@eaDir",
    "lost+found",
    "b.png",
    "B.PNG",
]


@pytest.mark.parametrize("seed", range(100))
def test_searches_agree_with_those_on_strings(seed):
    rng = random.Random(seed)
    names = names_of({"/".join(rng.choices(PARTS, k=rng.randint(1, 3))) for _ in range(rng.randrange(12))})
    if seed % 2:
        names = names.select([index for index in range(len(names)) if rng.random() < 0.6])
    lower = [name.lower() for name in names]
    assert names.containing(b"mac", b"b.").tolist() == ["mac" in name or "b." in name for name in lower]
    assert names.ending_with(b".png", b"c").tolist() == [name.endswith((".png", "c")) for name in lower]
    assert names.starting_with(b"@", b".").tolist() == [name[0] in "@." for name in lower]
    assert names.hidden().tolist() == [is_hidden(name) for name in names]


def test_a_search_looks_at_each_name_once(monkeypatch):
    calls = []
    searchsorted = np.searchsorted
    monkeypatch.setattr(np, "searchsorted", lambda *args, **kwargs: calls.append(1) or searchsorted(*args, **kwargs))
    names = names_of(["." * 1000 + str(number) for number in range(50)])
    assert names.containing(b"..").all()
    assert len(calls) == 50


def test_what_lies_in_a_hidden_folder_is_not_looked_at_one_by_one(monkeypatch):
    names = names_of([f"{folder}/{number:04d}.png" for folder in ("__MACOSX", "a") for number in range(1000)])
    monkeypatch.setattr("training.data.names._HIDDEN", CountingPattern())
    assert names.hidden().sum() == 1000
    assert CountingPattern.num_calls == 1


def test_null_characters_are_noticed():
    assert not names_of(LIST).are_ambiguous()
    assert names_of([*LIST, "a\0b"]).are_ambiguous()


@pytest.mark.parametrize(
    "name", ["._a.jpg", "./._a.jpg", "a/.git/b.png", "__MACOSX/a.png", "x/@eaDir/a.jpg", "$Recycle.Bin/a.jpg"]
)
def test_hidden(name):
    assert is_hidden(name)


@pytest.mark.parametrize(
    "name", ["a.jpg", "a..b/c.png", "./a.png", "a/./b.png", "a/__MACOSX", "my__MACOSX/a.png", "lost+found.png"]
)
def test_not_hidden(name):
    assert not is_hidden(name)


def test_names_are_shown_without_effect_on_the_terminal():
    assert shown("a b.png") == "a b.png"
    assert shown("\x1b[2J\n\u202e.png") == "'\\x1b[2J\\n\\u202e.png'"
    assert shown("x" * 101) == "x" * 97 + "..."
    assert some(["a"] * 5) == "a, a, a, a, a"
    assert some(["\n"] + ["a"] * 5) == "'\\n', a, a, a, a, ..."


def test_many_names_need_little_memory():
    names = names_of(f"{number:09d}.png" for number in range(1000))
    assert names.select(np.arange(10))._block is names._block
