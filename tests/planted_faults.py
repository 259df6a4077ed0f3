"""Small faults planted in the sources one at a time, and the tests that must notice each.

A test that cannot fail is worse than none. Run this after rewriting tests or the code that they test, and add a fault
for every new kind of check::

    python -m tests.planted_faults           # all; takes minutes
    python -m tests.planted_faults NAME ...  # some of them

It works on a copy, so the checkout does not change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults import FAULTS, Fault
from tests.helpers import REPOSITORY, repository_files


def run_tests(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--durations=1", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def is_caught(folder: Path, fault: Fault) -> bool:
    """Plant a fault in the copy, run its tests, and put the source back."""
    file = folder / fault.path
    source = file.read_text()
    file.write_text(source.replace(fault.right, fault.wrong))
    try:
        result = run_tests(folder, fault.tests)
    finally:
        file.write_text(source)
    if result.returncode not in (0, 1):  # neither passed nor failed: no such test, say
        raise SystemExit(f"pytest {' '.join(fault.tests)}:\n{result.stdout}{result.stderr}")
    return result.returncode == 1


def main(names: list[str]) -> int:
    """Try the faults and print a line for each; returns how many were missed."""
    if unknown := [name for name in names if name not in FAULTS]:
        raise SystemExit(f"no fault {', '.join(unknown)}; known are {', '.join(FAULTS)}")
    faults = {name: FAULTS[name] for name in names or FAULTS}
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        for path in repository_files():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, folder / path)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)  # for tests that list the files
        all_tests = tuple(sorted({test for fault in faults.values() for test in fault.tests}))
        result = run_tests(folder, all_tests)
        if result.returncode != 0:
            raise SystemExit(f"These tests fail without any fault:\n{result.stdout}{result.stderr}")
        missed = 0
        for name, fault in faults.items():
            outcome = is_caught(folder, fault)
            missed += not outcome
            print(f"{'caught' if outcome else 'MISSED'}  {name}: {fault.path}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} faults caught")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) != 0)
