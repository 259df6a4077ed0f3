"""Setting up: the Makefile's refusals, docker_run.sh's arguments, and the Dockerfile's steps in a fresh environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY, repository_files


@pytest.fixture
def checkout(tmp_path):
    """A copy of what git would clone, removed afterwards with everything installed beside it."""
    for name in repository_files():
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / "checkout" / name)
    yield tmp_path / "checkout"
    shutil.rmtree(tmp_path)


def fake_command(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("python", "fix"),
    [
        ("exit 1", "make PYTHON=/path/to/python3.12"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "sudo apt-get install python3-venv"),
    ],
)
def test_setup_refuses_in_one_line(tmp_path, python, fix):
    fake = fake_command(tmp_path / "python3", python)
    command = ["make", "--silent", "setup", f"PYTHON={fake}", f"VENV={tmp_path / 'venv'}"]
    env = {"PATH": os.environ["PATH"]}  # without the variables of the make that may run these tests
    result = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert result.returncode != 0
    error, make_says = result.stderr.splitlines()
    assert error.startswith(f"error: {fake} ")
    assert error.endswith(f"fix: {fix}")
    assert make_says.startswith("make: ***")
    assert not (tmp_path / "venv").exists()


def test_docker_run_passes_the_command_on(tmp_path):
    fake_command(tmp_path / "bin/docker", 'for argument; do echo "[$argument]"; done')
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "MSCOND_CACHE": str(tmp_path / "cache")}
    command = ["bash", REPOSITORY / "docker_run.sh", "python", "train.py", "--desc=two words"]
    arguments = subprocess.check_output(command, env={**env, "DOCKER_ARGS": "--volume /data:/data"}, text=True)
    words = re.findall(r"\[(.*)\]", arguments)
    image = words.index("mscond")
    assert words[image + 1 :] == ["python", "train.py", "--desc=two words"]
    assert words[0] == "run"
    options = " ".join(words[:image])
    for option in (
        "--gpus all",
        f"--user {os.getuid()}:{os.getgid()}",
        f"{REPOSITORY}:/workspace",
        "--volume /data:/data",
    ):
        assert option in options
    assert (tmp_path / "cache").is_dir()


def install_command(text):
    """The arguments of pip in a line of the Makefile or the Dockerfile that decide what is installed."""
    (arguments,) = re.findall(r"-m pip install (.*)$", text, re.MULTILINE)
    return [word for word in arguments.split() if word not in ("--disable-pip-version-check", "--no-compile")]


def test_the_image_holds_what_make_installs(checkout):
    """What the Dockerfile does is what has been done to install the environment that runs this test."""
    dockerfile = (checkout / "Dockerfile").read_text()
    assert re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE) == ["requirements.lock ./"]
    assert len(re.findall(r"^RUN ", dockerfile, re.MULTILINE)) == 1
    assert install_command(dockerfile) == install_command((checkout / "Makefile").read_text())
    assert "--only-binary=:all:" in install_command(dockerfile)  # no compiler
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", *install_command(dockerfile)]
    result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    assert "Would install" not in result.stdout, result.stdout


@pytest.mark.slow
def test_the_locked_packages_suffice(checkout):
    """Nothing else of this machine on the path: scripts run, and the project can be installed."""
    workspace, target = checkout.parent / "workspace", checkout.parent / "installed"
    workspace.mkdir()
    python = sys.executable
    env = {"PATH": str(Path(python).parent), "HOME": os.environ["HOME"]}
    subprocess.run([python, "-m", "pip", "check"], env=env, check=True)
    subprocess.run([python, "-m", "torch_utils.doctor"], cwd=checkout, env=env, check=True)
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        target,
        ".",
    ]
    subprocess.run(install, cwd=checkout, env=env, check=True)
    env["PYTHONPATH"] = str(target)
    subprocess.run([target / "bin/mscond", "train", "--help"], cwd=workspace, env=env, check=True)
    subprocess.run([python, "-c", "import mscond.modules.training.networks"], cwd=workspace, env=env, check=True)
