"""Freed memory is kept, and given back on request."""

import platform
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

PROGRAM = """
import psutil, torch
from torch_utils.host_memory import keep_freed_memory, release_free_memory

def resident_mib():
    return psutil.Process().memory_info().rss >> 20

keep_freed_memory()
before = resident_mib()
tensors = [torch.ones([16 << 18]) for _ in range(8)]
del tensors
print(resident_mib() - before)
release_free_memory()
print(resident_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told what to do with freed memory")
def test_freed_memory_is_kept_until_it_is_released():
    """128 MiB; without being told, glibc unmaps tensors of 16 MiB at once."""
    output = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    kept_mib, left_mib = map(int, output.stdout.split())
    assert kept_mib > 100
    assert left_mib < 30
