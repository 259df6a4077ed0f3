"""Files that are mistaken for snapshots, recognized by their first bytes, and what to give instead."""

from __future__ import annotations

import pickletools
import re
from typing import IO, cast

from torch_utils.pickle_machine import MAX_OPCODES, BoundedReader

SNIFFED_BYTES = 4096
SNAPSHOT = "give a network snapshot (.pkl)"

_IMAGE = f"; {SNAPSHOT}; projector.py takes images by --target"
_ARCHIVE = "; unpack it first"
_WEIGHTS = f"; {SNAPSHOT}, or, for weights of this project, the folder that holds them and config.json"

_BEGINNINGS: tuple[tuple[str, str], ...] = (
    (r"\x89PNG\r\n", f"a PNG image{_IMAGE}"),
    (r"\xff\xd8\xff", f"a JPEG image{_IMAGE}"),
    (r"GIF8[79]a", f"a GIF image{_IMAGE}"),
    (r"RIFF....WEBP", f"a WebP image{_IMAGE}"),
    (r"(II\*\0|MM\0\*)", f"a TIFF image{_IMAGE}"),
    (r"BM.{4}\0{4}.{2}\0\0", f"a BMP image{_IMAGE}"),
    (r"(\0{3}\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)", f"a JPEG 2000 image{_IMAGE}"),
    (r"(\0{3}\x0cJXL \r\n\x87\n|\xff\n)", f"a JPEG XL image; {SNAPSHOT}"),
    (r"\0\0\x01\0[^\0]\0", f"an icon (ICO); {SNAPSHOT}"),
    (r"8BPS\0[\x01\x02]", f"a Photoshop file; {SNAPSHOT}"),
    (r"RIFF....WAVE", f"a WAV sound; {SNAPSHOT}"),
    (r"....ftyp", f"a video or HEIF image{_IMAGE}"),
    (r"%PDF-", f"a PDF document; {SNAPSHOT}"),
    (r"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer; fetch the file itself by git lfs pull"),
    (r"\x1f\x8b", f"a gzip file{_ARCHIVE} (gunzip, tar xzf)"),
    (r"BZh[1-9]", f"a bzip2 file{_ARCHIVE}"),
    (r"\xfd7zXZ\0", f"an xz file{_ARCHIVE}"),
    (r"\x28\xb5\x2f\xfd", f"a Zstandard file{_ARCHIVE}"),
    (r"7z\xbc\xaf\x27\x1c", f"a 7z archive{_ARCHIVE}"),
    (r"Rar!\x1a\x07", f"a RAR archive{_ARCHIVE}"),
    (r".{257}ustar", f"a tar archive{_ARCHIVE}"),
    (r"\x89HDF\r\n", f"an HDF5 file, as Keras writes weights; {SNAPSHOT}"),
    (r"GGUF[\x01-\x0f]\0{3}", f"a GGUF file, weights of a language model; {SNAPSHOT}"),
    (r"SQLite format 3\0", f"an SQLite database; {SNAPSHOT}"),
    (r"\x93NUMPY", f"a NumPy array; {SNAPSHOT}"),
    (
        r".{5}\0{3}\{\"__metadata__\":\{\"tree\"",
        f"a checkpoint of a run, which train.py --continue reads; {SNAPSHOT} from the same folder",
    ),
    (r".{5}\0{3}\{", f"a safetensors file{_WEIGHTS}"),
    (r"\x08[\x03-\x20][\x12\x1a\x22\x3a]", f"an ONNX program; {SNAPSHOT}"),
    (r"\x80[\x02-\x05].{0,12}\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", f"weights as torch.save writes them; {SNAPSHOT}"),
    (r"(\xff\xfe|\xfe\xff)", f"a text file in UTF-16; {SNAPSHOT}"),
    (r"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", "a web page, perhaps what a failed download left"),
    (r"(\xef\xbb\xbf)?\s*([{\[]\s*[\"{}\[\]]|\[\s*-?\d)", f"a JSON file; {SNAPSHOT}"),
)
_PATTERNS = [(re.compile(pattern.encode("latin1"), re.DOTALL | re.IGNORECASE), what) for pattern, what in _BEGINNINGS]

_ZIP_CONTENTS = (
    (r"\.npy$", f"a NumPy archive; {SNAPSHOT}; generate.py takes projected_w.npz by --projected-w"),
    (r"\.(png|jpe?g|webp|bmp)$|^dataset\.json$", f"a zip file of images; datasets go to --data; {SNAPSHOT}"),
    (
        r"(^|/)(data\.pkl|data/|version|byteorder|\.format_version|archive_format|archive_version|constants\.pkl|code/)"
        r"|(^|/)(models|extra)/|^serialized_",
        f"a zip file of weights or a program, as torch.save, torch.jit.save and torch.export.save write; {SNAPSHOT}",
    ),
)
"""Zip files by the name of their first entry."""


def describe_other_file(file: IO[bytes]) -> str | None:
    """Say what a file is if it is clearly not a pickle, and what to give instead.

    Args:
        file: Seekable; its position stays.

    Returns:
        A phrase like ``"a PNG image; give ..."``, or None for pickles and for what is not known.
    """
    position = file.tell()
    start = file.read(SNIFFED_BYTES)
    file.seek(position)
    if not start:
        return "an empty file, perhaps what a failed download or copy left"
    if start.startswith(b"PK"):
        return _describe_zip(start)
    for pattern, what in _PATTERNS:
        if pattern.match(start):
            return what
    if _is_text(start) and not is_pickle(file):
        return f"a text file; {SNAPSHOT}"
    return None


def is_pickle(file: IO[bytes]) -> bool:
    """Return whether a seekable file is a pickle, good or bad; its position stays."""
    position = file.tell()
    try:
        start = file.read(2)
        file.seek(position)
        return (start[:1] == b"\x80" and start[1:] <= b"\x05") or _has_opcodes(file)
    finally:
        file.seek(position)


def _has_opcodes(file: IO[bytes]) -> bool:
    """Return whether the file consists of more than one opcode, the last of which is STOP."""
    try:
        num_opcodes = 0
        for num_opcodes, _ in enumerate(pickletools.genops(cast(IO[bytes], BoundedReader(file)))):
            if num_opcodes > MAX_OPCODES:
                break
        return num_opcodes > 0
    except Exception:  # broken bytes make almost anything happen
        return False


def _describe_zip(start: bytes) -> str:
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")].decode("latin1")
    for pattern, what in _ZIP_CONTENTS:
        if re.search(pattern, name.lower()):
            return what
    return f"a zip file; {SNAPSHOT}"


def _is_text(start: bytes) -> bool:
    """Return whether all characters are printable; the last may be cut in two."""
    try:
        text = start.decode("utf-8", "strict" if len(start) < SNIFFED_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f" for character in text)
