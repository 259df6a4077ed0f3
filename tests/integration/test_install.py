"""Setting up: the Makefile's refusals, docker_run.sh's arguments, and the Dockerfile's steps in a fresh environment."""

import os
import re
import shutil
import subprocess
import sys

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


def run_dockerfile(checkout, workspace, env):
    """Do what the Dockerfile's COPY and RUN lines say, with ``workspace`` as its WORKDIR."""
    for instruction, text in re.findall(r"^(COPY|RUN) (.*)$", (checkout / "Dockerfile").read_text(), re.MULTILINE):
        if instruction == "COPY":
            source, target = text.split()
            shutil.copy(checkout / source, workspace / target)
        else:
            subprocess.run(["/bin/sh", "-c", text], cwd=workspace, env=env, check=True)


@pytest.mark.slow
def test_dockerfile_installs_a_working_environment(checkout):
    """No compiler, nothing else of this machine on the path: the locked wheels suffice for every script and test."""
    venv, workspace = checkout.parent / "venv", checkout.parent / "workspace"
    workspace.mkdir()
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    # Compiling all packages takes longer than what is done with them.
    env = {"PATH": str(venv / "bin"), "HOME": os.environ["HOME"], "PIP_NO_COMPILE": "1"}
    run_dockerfile(checkout, workspace, env)
    python = venv / "bin/python"
    subprocess.run([python, "-m", "pip", "check"], env=env, check=True)
    subprocess.run([python, "-m", "torch_utils.doctor"], cwd=checkout, env=env, check=True)
    install = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "."]
    subprocess.run(install, cwd=checkout, env=env, check=True)
    subprocess.run([venv / "bin/mscond", "train", "--help"], cwd=workspace, env=env, check=True)
    subprocess.run([python, "-c", "import mscond.modules.training.networks"], cwd=workspace, env=env, check=True)
