"""The commands of the README's tutorial, as they stand there, with settings that a test can afford."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY
from tests.image_files import encode, random_image, write_folder

TINY_NETWORKS = "--size=32 --cbase=64 --cmax=16 --map-depth=1 --batch=4"
AFFORDABLE = {
    "train.py": f"{TINY_NETWORKS} --time=3s --workers=0 --metrics=none --device=cpu",
    "train.py --continue": "--workers=0 --device=cpu",
    "generate.py": "--device=cpu",
    "generate.py --video": "--device=cpu --frames=2 --fps=4",
    "style_mixing.py": "--device=cpu --styles=0-1",
    "projector.py": "--device=cpu --num-steps=3 --detector=efficientnet_lite1",
    "edit.py": "--device=cpu --samples=50",
    "calc_metrics.py": "--device=cpu --metrics=fd_tiny",
}
"""What is added at the end of each command, where it overrules what came before."""


def tutorial(heading):
    """The shell commands of a section of the README."""
    section = re.search(rf"^## {heading}\n(.*?)^## ", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```bash\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)
    return [line for line in "".join(blocks).splitlines() if line.startswith("python ")]


def affordable(command):
    """Let ``python SCRIPT`` run that script of the repository, wherever it is called."""
    _python, script, *arguments = command.split()
    kind = next((each for each in AFFORDABLE if " " in each and set(each.split()) <= _flags(script, arguments)), script)
    return f"{shlex.join([sys.executable, str(REPOSITORY / script)])} {' '.join(arguments)} {AFFORDABLE.get(kind, '')}"


def _flags(script, arguments):
    return {script, *(argument.partition("=")[0] for argument in arguments)}


@pytest.mark.slow
@pytest.mark.parametrize("heading", ["The first minute", "From your photographs to images"])
def test_every_command_runs(heading, tmp_path):
    write_folder(tmp_path / "photos", {f"{i:02d}.jpg": encode(random_image(i, (40, 30)), "JPEG") for i in range(24)})
    (tmp_path / "photo.png").write_bytes(encode(random_image(0, (40, 30))))
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "tests/cheap_metric"),
        "DNNLIB_CACHE_DIR": str(tmp_path),
    }
    commands = tutorial(heading)
    assert len(commands) >= 4
    for command in map(affordable, commands):
        result = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
    assert list(tmp_path.glob("out/*"))
