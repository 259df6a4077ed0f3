"""Image files for tests: random pixels in any mode, folders and zips of them, CIFAR-10, MNIST, and damaged files."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def random_image(seed=0, size=(8, 8), mode="RGB"):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.RandomState(seed).randint(256, size=(size[1], size[0], channels), dtype=np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def write_folder(path: Path, files: dict[str, bytes], labels=None) -> Path:
    for name, data in with_labels(files, labels).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_zip(path: Path, files: dict[str, bytes], labels=None, method=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in with_labels(files, labels).items():
            archive.writestr(name, data)
    return path


def packed_zip(path: Path, files: dict[str, bytes], labels=None) -> Path:
    return write_zip(path, files, labels, zipfile.ZIP_DEFLATED)


def with_labels(files, labels):
    return files if labels is None else {**files, "dataset.json": json.dumps({"labels": labels}).encode()}


def images(count, **kwargs):
    """Names and PNGs of random images, spread over folders so that their order is that of their names."""
    return {f"{seed // 3}/{seed:03d}.png": encode(random_image(seed, **kwargs)) for seed in range(count)}


def tiff_of_zeros_that_are_white(values):
    """A TIFF of 16-bit grey values [H, W] whose largest value is black (PhotometricInterpretation 0 of TIFF 6.0)."""
    data = np.asarray(values, "<u2").tobytes()
    height, width = np.shape(values)
    tags = {
        256: width,
        257: height,
        258: 16,
        259: 1,
        262: 0,
        273: 8 + 2 + 12 * 9 + 4,
        277: 1,
        278: height,
        279: len(data),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""
    return _png(width, height, color_type=2, rows=b"")


def png_without_palette(side):
    """A PNG whose pixels are numbers of colors that it does not have."""
    return _png(side, side, color_type=3, rows=bytes((1 + side) * side))


def png_of(values, bits, color_type, transparent=None):
    """A PNG of one row of values [W, channels], and perhaps the values of a color that is transparent."""
    values = np.asarray(values)
    digits = "".join(f"{value:0{bits}b}" for value in values.ravel())
    digits += "0" * (-len(digits) % 8)
    row = int(digits, 2).to_bytes(len(digits) // 8, "big")
    chunks = () if transparent is None else ((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)),)
    return _png(len(values), 1, color_type, b"\0" + row, bits, chunks)


def _png(width, height, color_type, rows, bits=8, chunks=()):
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def progressive_jpeg(side_px, num_scans):
    """A grey JPEG of which each scan says next to nothing about all pixels."""

    def segment(marker, data):
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    def packed(bits):
        bits += "1" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    num_blocks = (side_px // 8) ** 2
    one_symbol = bytes([1, *[0] * 15])  # a Huffman table with the code "0"
    end_of_blocks = 0xE0  # of 2^14 and more, as the next 14 bits say
    assert 1 << 14 <= num_blocks < 1 << 15
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([0, *[1] * 64])),
            segment(0xC2, struct.pack(">BHHB3B", 8, side_px, side_px, 1, 1, 0x11, 0)),
            segment(0xC4, bytes([0x00]) + one_symbol + bytes([0])),
            segment(0xC4, bytes([0x10]) + one_symbol + bytes([end_of_blocks])),
            segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + packed("0" * num_blocks),
            *[segment(0xDA, bytes([1, 1, 0, 1, 63, 1])) + packed(f"0{num_blocks - (1 << 14):014b}")] * (num_scans - 1),
            b"\xff\xd9",
        ]
    )


def sequential_jpeg(side_px, num_scans):
    """A JPEG that is not progressive and whose components are repeated in scans that say next to nothing."""

    def segment(marker, data):
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    one_symbol = bytes([1, *[0] * 15, 0])
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([0, *[1] * 64])),
            segment(0xC0, struct.pack(">BHHB", 8, side_px, side_px, 3) + components),
            segment(0xC4, b"\x00" + one_symbol),
            segment(0xC4, b"\x10" + one_symbol),
            *[segment(0xDA, bytes([1, 1 + scan % 3, 0, 0, 63, 0])) + b"\0" for scan in range(num_scans)],
            b"\xff\xd9",
        ]
    )


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
"""What git leaves in place of a large file that it did not fetch."""

GOOD = encode(random_image())

DAMAGED = {
    "empty": b"",
    "html": b"<html><body>404</body></html>",
    "truncated": GOOD[: len(GOOD) // 2],
    "cut jpeg": encode(random_image(), "JPEG", quality=95)[:-100],
    "flipped bit": GOOD[:60] + bytes([GOOD[60] ^ 1]) + GOOD[61:],
    "huge": png_header(20000, 20000),
}
"""Files that cannot be decoded, whatever their names say."""


def cifar_batches(per_batch=2):
    rng = np.random.RandomState(0)
    return [
        (rng.randint(256, size=(per_batch, 3072), dtype=np.uint8), rng.randint(10, size=per_batch).tolist())
        for _ in range(5)
    ]


def write_cifar(path, pickles):
    with tarfile.open(path, "w:gz") as tar:
        for number, data in enumerate(pickles, 1):
            info = tarfile.TarInfo(f"cifar-10-batches-py/data_batch_{number}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, images, labels):
    with gzip.open(folder / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(labels)
    with gzip.open(folder / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(images)
    return folder / "train-images-idx3-ubyte.gz"


DIGITS = np.random.RandomState(0).randint(256, size=(3, 28, 28), dtype=np.uint8)
CLASSES = np.array([5, 0, 9], dtype=np.uint8)
