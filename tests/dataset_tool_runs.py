"""Runs of ``dataset_tool.py`` in this process, and what is in the datasets that it writes."""

import io
import json
import zipfile

import numpy as np
from click.testing import CliRunner
from PIL import Image

import dataset_tool


def run(*arguments, **options):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {"workers": 1, **options}.items()]
    return CliRunner().invoke(dataset_tool.main, [*arguments, *flags])


def succeed(*arguments, **options):
    result = run(*arguments, **options)
    assert result.exit_code == 0, result.output
    return result.output


def fail(match, *arguments, **options):
    """The error is one line that holds ``match``; what comes before it is usage or output."""
    result = run(*arguments, **options)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: ")
    assert match in last
    return result


def content(path):
    """Decoded images and parsed JSON files of a zip by name."""
    parse = {
        "json": json.loads,
        "jsonl": lambda data: [json.loads(line) for line in data.splitlines()],
        "png": lambda data: np.asarray(Image.open(io.BytesIO(data))),
    }
    with zipfile.ZipFile(path) as archive:
        return {name: parse[name.rpartition(".")[2]](archive.read(name)) for name in archive.namelist()}


def other_bytes(path):
    """All entries of a zip, as they are, but the map to the source files."""
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist() if name != "sources.jsonl"]
