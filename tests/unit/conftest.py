"""What the tests of scripts begin with."""

import pytest

from tests import tiny_snapshot


@pytest.fixture
def network(tmp_path):
    """A snapshot, and its generator."""
    path = tmp_path / "network-snapshot-000001.pkl"
    return path, tiny_snapshot.write(path)


@pytest.fixture
def outdir(tmp_path):
    """Where a script is to write; it makes the folders."""
    return tmp_path / "deep" / "out"
