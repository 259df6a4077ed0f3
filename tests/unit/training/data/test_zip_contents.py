"""Against `zipfile`, which wrote all of these zips."""

import contextlib
import random
import stat
import struct
import warnings
import zipfile

import numpy as np
import pytest

from dnnlib.errors import UserError
from tests.image_files import LFS_POINTER
from training.data import archive_base, zip_contents
from training.data.archive import open_archive
from training.data.codec import image_names
from training.data.zip_contents import encoded_name, read_contents

NAMES = ["b/2.png", "a.png", "b/1.png", "c/"]


def write(path, names=NAMES, method=zipfile.ZIP_STORED, comment=b"", prefix=b"", zip64=False):
    path.write_bytes(prefix)
    with zipfile.ZipFile(path, "a", method) as file:
        file.comment = comment
        for name in names:
            with file.open(name, "w", force_zip64=zip64) as entry:
                entry.write(b"" if name.endswith("/") else name.encode() * 9)
    return path


WIDE_FIELDS = {"size": 24, "packed": 20, "position": 42}
"""Where the numbers are in a record, in the order in which they follow each other in a zip64 field."""


def as_zip64(data, wide=("size", "packed", "position")):
    """Move numbers of all records of a zip, and those of the table, to fields of 64 bits."""
    begin = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    count = struct.unpack_from("<H", data, end + 10)[0]
    at, records = begin, []
    while at < end:
        record = bytearray(data[at : at + 46])
        name_bytes = struct.unpack_from("<H", record, 28)[0]
        numbers = [struct.unpack_from("<L", record, WIDE_FIELDS[field])[0] for field in wide]
        extra = struct.pack(f"<2H5s2H{len(wide)}Q", 0x7075, 5, b"other", 1, 8 * len(wide), *numbers)
        for field in wide:
            struct.pack_into("<L", record, WIDE_FIELDS[field], 0xFFFFFFFF)
        struct.pack_into("<H", record, 30, len(extra))
        records.append(bytes(record) + data[at + 46 : at + 46 + name_bytes] + extra)
        at += 46 + name_bytes
    table = b"".join(records)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(table), begin)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, begin + len(table), 1)
    short_end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:begin] + table + end64 + locator + short_end


def listed(path):
    """Name -> size and checksum as `zipfile` reads them."""
    with zipfile.ZipFile(path) as file:
        return {entry.filename: (entry.file_size, entry.CRC) for entry in file.infolist() if entry.filename[-1:] != "/"}


def parsed(path):
    names, entries = read_contents(path)
    return dict(zip(names, zip(entries["size"].tolist(), entries["crc"].tolist(), strict=True), strict=True))


VARIANTS = {
    "stored": {},
    "deflated": {"method": zipfile.ZIP_DEFLATED},
    "empty": {"names": []},
    "comment": {"comment": b"some comment"},
    "data in front": {"prefix": b"#!/bin/sh\n" * 99},
    "zip64": {"zip64": True},
    "not ASCII": {"names": ["\u4e16.png", "\u00e4.png", "z.png", "\U0001f600.png", "\uffee.png"]},
    "magic numbers in names": {"names": ["PK\1\2.png", "aPK\5\6.png", "b.png"], "comment": b"PK\1\2"},
    "many": {"names": [f"{number % 7}/{number:05d}.png" for number in range(1000)]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_reads_what_zipfile_reads(tmp_path, variant):
    path = write(tmp_path / "x.zip", **VARIANTS[variant])
    assert parsed(path) == listed(path)
    names = read_contents(path).names
    assert names == sorted(names)
    opened = open_archive(path)
    with zipfile.ZipFile(path) as file:
        assert {name: opened.read(name) for name in names} == {name: file.read(name) for name in names}


def test_a_zip_behind_other_data(tmp_path):
    path = write(tmp_path / "x.zip")
    expected = listed(path)
    path.write_bytes(b"#!/bin/sh\n" * 9 + path.read_bytes())
    assert parsed(path) == listed(path) == expected
    assert open_archive(path).read("a.png") == b"a.png" * 9


def test_names_in_code_page_437(tmp_path):
    path = write(tmp_path / "x.zip", ["a.png"])
    data = bytearray(path.read_bytes())
    for magic, name_at in ((b"PK\3\4", 30), (b"PK\1\2", 46)):
        data[data.index(magic) + name_at] = 0x84
    path.write_bytes(data)
    assert list(parsed(path)) == list(listed(path)) == ["\u00e4.png"]
    assert open_archive(path).read("\u00e4.png")


def test_names_in_utf8_that_do_not_say_so(tmp_path):
    """As macOS writes them."""
    path = write(tmp_path / "x.zip", ["\u00e4.png"])
    data = bytearray(path.read_bytes())
    for magic, flags_at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        data[data.index(magic) + flags_at] ^= 8
    path.write_bytes(data)
    assert list(listed(path)) == ["\u251c\u00f1.png"]  # for which zipfile takes it
    assert list(parsed(path)) == ["\u00e4.png"]
    assert open_archive(path).read("\u00e4.png")


@pytest.mark.parametrize("wide", [["size", "packed", "position"], ["position"], ["size", "position"], ["packed"]])
def test_numbers_in_fields_of_64_bits(tmp_path, wide):
    path = write(tmp_path / "x.zip")
    expected = listed(path)
    path.write_bytes(as_zip64(path.read_bytes(), wide))
    assert parsed(path) == listed(path) == expected
    assert open_archive(path).read("a.png") == b"a.png" * 9


def test_a_record_found_by_its_magic_number_alone_is_not_trusted(tmp_path, monkeypatch):
    path = write(tmp_path / "x.zip", ["a.png", "PK\1\2" + "\1" * 60 + ".png"])
    assert parsed(path) == listed(path)
    walked = []
    walk = zip_contents._walk
    monkeypatch.setattr(zip_contents, "_walk", lambda table: walked.append(1) or walk(table))
    read_contents(path)
    read_contents(write(tmp_path / "y.zip"))
    assert len(walked) == 1


def test_keeps_no_object_per_file(tmp_path):
    names, entries = read_contents(write(tmp_path / "x.zip", VARIANTS["many"]["names"]))
    assert entries.dtype == zip_contents.ENTRY
    assert isinstance(names._block, bytes)
    assert all(isinstance(array, np.ndarray) for array in (names._starts, names._ends))


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        read_contents(path)
    message = str(caught.value).replace(str(path), "")
    assert len(message.splitlines()) == 1
    assert len(message) < 250
    assert message.isascii()
    assert message.isprintable()


def patched(path, magic, at, new):
    """Overwrite bytes behind the last occurrence of a magic number."""
    data = bytearray(path.read_bytes())
    begin = data.rindex(magic) + at
    data[begin : begin + len(new)] = new
    path.write_bytes(data)
    return path


RECORD, END = b"PK\1\2", b"PK\5\6"

FAULTS = {
    "version": (RECORD, 6, b"\x40", "'a.png' needs a newer version"),
    "encrypted": (RECORD, 8, b"\1", "'a.png' is encrypted; pack the images again, without a pass"),
    "patch": (RECORD, 8, b"\x20", "'a.png' is a patch"),
    "strongly encrypted": (RECORD, 8, b"\x40", "'a.png' is strongly encrypted"),
    "masked": (RECORD, 9, b"\x20", "'a.png' is strongly encrypted"),
    "method": (RECORD, 10, b"\x0e", "'a.png' is packed by a method other than store or deflate; pack"),
    "two sizes": (RECORD, 24, b"\x40", "'a.png' states two sizes"),
    "beyond the end": (RECORD, 20, b"\xf0\0\0\0\xf0", "'a.png' is said to lie outside"),
    "far beyond the end": (RECORD, 42, b"\xfe\xff\xff\xff", "'a.png' is said to lie outside"),
    "zip64 without a field": (RECORD, 42, b"\xff\xff\xff\xff", "zip64 field in its table of contents is missing"),
    "symbolic link": (RECORD, 38, struct.pack("<L", (stat.S_IFLNK | 0o777) << 16), "'a.png' is a symbolic link"),
    "absolute path": (RECORD, 46, b"/", "'/.png' has an absolute path"),
    "drive": (RECORD, 47, b":", "'a:png' has an absolute path"),
    "null": (RECORD, 47, b"\0", r"'a\\x00png' has a path with .* a null character"),
    "backslash": (RECORD, 47, b"\\", "has a path with .* a backslash .*; unpack the images and give"),
    "escape sequence": (RECORD, 46, b"\\\x1b[2J", r"'\\\\\\x1b\[2J' has a path with"),
    "no name": (RECORD, 28, b"\0\0\5\0", "'' has no name"),
    "name too long": (RECORD, 28, b"\xff\xff", "its table of contents is damaged"),
    "magic number": (RECORD, 3, b"\3", "its table of contents is damaged"),
    "table too long": (END, 12, b"\xff\xff\xff\x7f", "its end is damaged"),
    "table too short": (END, 12, b"\x20", "its table of contents is damaged"),
    "table too far": (END, 16, b"\xff\xff\xff\x7f", "its end is damaged"),
    "several parts": (END, 4, b"\2", "part of a larger one"),
    "no end": (END, 0, b"PK\0\0", "its end is missing"),
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"7z\xbc\xaf\x27\x1c\0", "it is a 7z archive; unpack it, and give the folder"),
        (b"Rar!\x1a\x07\0", "it is a RAR archive"),
        (b"\x1f\x8b\x08", "it is a gzip archive"),
        (b"\xfd7zXZ\0", "it is a xz archive"),
        (b"", "it is an empty file"),
        (b"PK\3\4", "its end is missing; is the download or copy complete"),
    ],
)
def test_other_files_named_zip_are_called_what_they_are(tmp_path, content, said):
    (tmp_path / "x.zip").write_bytes(content)
    refused(tmp_path / "x.zip", f"cannot be read as a zip: {said}")


def test_paths_that_begin_with_a_dot(tmp_path):
    path = write(tmp_path / "x.zip", ["./a.png", "./b/.c.png"])
    assert [*image_names(open_archive(path))] == ["./a.png"]


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_in_one_line(tmp_path, fault):
    magic, at, new, match = FAULTS[fault]
    refused(patched(write(tmp_path / "x.zip", ["a.png"]), magic, at, new), match)


def test_refuses_names_that_are_not_in_utf8_as_they_claim(tmp_path):
    path = write(tmp_path / "x.zip", ["a.png", "\u00e4.png"])
    refused(patched(path, RECORD, 46, b"\xff"), r"b'\\xff\\xa4\.png' has a name that is not in UTF-8")


@pytest.mark.parametrize(
    ("raw", "name"), [("\u00c4pfel.png".encode(), "\u00c4pfel.png"), (b"\x8epfel.png", "\u00c4pfel.png")]
)
def test_names_without_a_stated_encoding_are_in_utf8_or_code_page_437(raw, name):
    assert encoded_name(raw, flags=0).decode() == name


def test_a_local_name_that_is_not_in_utf8_is_damage(tmp_path):
    path = patched(write(tmp_path / "x.zip", ["\u00e4.png"]), b"PK\3\4", 30, b"\xff")
    with pytest.raises(OSError, match="is another file"):
        open_archive(path).read("\u00e4.png")


@pytest.mark.parametrize("num_values", [0, 2])
def test_refuses_fields_of_64_bits_that_are_too_short(tmp_path, num_values):
    path = write(tmp_path / "x.zip", ["a.png"])
    path.write_bytes(as_zip64(path.read_bytes()))
    refused(patched(path, b"\1\0\x18\0", 2, bytes([8 * num_values])), "zip64 field in its table of contents is damaged")


@pytest.mark.parametrize("field_at", [12, 20])
def test_refuses_numbers_that_overflow(tmp_path, field_at):
    path = write(tmp_path / "x.zip", ["a.png"], zipfile.ZIP_DEFLATED)
    path.write_bytes(as_zip64(path.read_bytes()))
    refused(patched(path, b"\1\0\x18\0", field_at, b"\xff" * 8), "'a.png' is said to lie outside")


def test_refuses_an_end_of_64_bits_that_is_missing(tmp_path):
    path = write(tmp_path / "x.zip")
    path.write_bytes(as_zip64(path.read_bytes()))
    refused(patched(path, b"PK\6\6", 0, b"PK\0\0"), "its end is damaged")


def test_refuses_names_that_appear_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        write(tmp_path / "x.zip", ["b.png", "a.png", "b.png"])
    refused(tmp_path / "x.zip", "'b.png' appears twice")


def outcome(read, path, errors):
    try:
        return read(path)
    except errors:
        return None


@pytest.mark.parametrize("variant", ["stored", "deflated", "zip64", "not ASCII", "data in front"])
@pytest.mark.parametrize("seed", range(40))
def test_mutations_are_refused_or_read_as_zipfile_reads_them(tmp_path, variant, seed):
    rng = random.Random(f"{variant} {seed}")
    path = write(tmp_path / "x.zip", **VARIANTS[variant])
    data = bytearray(path.read_bytes())
    if variant == "zip64":
        data = bytearray(as_zip64(bytes(data)))
    for _ in range(rng.choice([1, 1, 2, 5])):
        data[rng.randrange(data.index(b"PK\1\2"), len(data))] = rng.choice([0, 1, 0x50, 0xFF, rng.randrange(256)])
    path.write_bytes(data)
    ours = outcome(parsed, path, UserError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = outcome(listed, path, (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error))
    assert ours is None or theirs is None or ours == theirs
    if ours is not None:
        opened = open_archive(path)
        for name in opened.names:
            with contextlib.suppress(OSError):
                opened.read(name)
            with contextlib.suppress(OSError), opened.open(name) as file:
                assert len(file.read(100)) <= archive_base.MAX_FILE_BYTES


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "it is an empty file"), (LFS_POINTER, "it is a Git LFS pointer"), (b"<html>", "it is a web page")],
)
def test_says_what_lies_in_place_of_a_zip(tmp_path, content, said):
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", f"cannot be read as a zip: {said}")
