"""The installed package: one name, one command, beside a project whose folders have the names of ours; the notebook."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny_snapshot
from tests.helpers import REPOSITORY, repository_files
from tests.image_files import encode, random_image, write_folder

pytestmark = pytest.mark.slow

BUILD = """
import sys
sys.path.insert(0, "build_backend")
import reproducible
folder = sys.argv[1]  # setuptools changes sys.argv
reproducible.build_wheel(folder)
reproducible.build_sdist(folder)
"""
OWN_MODULE = "raise RuntimeError('a module of the user was imported by a command of ours')"


def build(checkout: Path, umask: int = 0o022) -> tuple[Path, Path]:
    """Build the wheel and the sdist of a checkout."""
    (checkout / "dist").mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, checkout / "dist"],
        cwd=checkout,
        umask=umask,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,), (sdist,) = (checkout / "dist").glob("*.whl"), (checkout / "dist").glob("*.tar.gz")
    return wheel, sdist


def copy_of_the_sources(folder: Path) -> Path:
    """What git would clone, without the tests."""
    for name in repository_files():
        if not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(copy_of_the_sources(tmp_path_factory.mktemp("built")))


@pytest.fixture(scope="module")
def venv(tmp_path_factory, built):
    """An environment with the wheel alone; it borrows the packages of other projects from that of the tests."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site_packages,) = venv.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", built[0]], check=True)
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    yield venv
    shutil.rmtree(venv)


@pytest.fixture
def project(tmp_path):
    """A folder of somebody who has modules of our names."""
    for name in ("metrics", "training", "dnnlib", "torch_utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(OWN_MODULE)
    for name in ("train.py", "generate.py"):
        (tmp_path / name).write_text(OWN_MODULE)
    return tmp_path


def run(venv: Path, folder: Path, *command: str) -> str:
    """Run a program of the environment in ``folder``, without the variables of the tests that would help it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    program = venv / "bin" / command[0]
    result = subprocess.run([program, *command[1:]], cwd=folder, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_one_name_and_one_command(venv):
    (site_packages,) = venv.glob("lib/python*/site-packages")
    names = {path.name for path in site_packages.iterdir() if not path.name.startswith("mscond-")}
    assert names == {"mscond", "borrowed.pth"}
    commands = {path.name for path in (venv / "bin").iterdir()}
    assert {name for name in commands if not name.lower().startswith(("python", "activate"))} == {"mscond"}


def test_the_wheel_holds_every_module_and_what_they_read(built):
    sources = [name for name in repository_files() if not name.startswith(("tests/", "benchmarks/", "build_backend/"))]
    read = (".py", ".safetensors", ".js", ".css", ".LICENSE")
    expected = {name for name in sources if name.endswith(read) and not name.startswith("docs/")}
    expected |= {name for name in sources if Path(name).parent == Path("docs") and name.endswith(".md")}
    packed = set(zipfile.ZipFile(built[0]).namelist())
    here = {f"mscond/code/{name}".replace("mscond/code/package/", "mscond/") for name in expected}
    assert here - packed == set()
    assert {name.partition("/")[0] for name in packed if ".dist-info/" not in name} == {"mscond"}


def test_wheel_and_sdist_are_the_same_wherever_they_are_built(built, tmp_path):
    checkout = copy_of_the_sources(tmp_path / "elsewhere")
    for path in checkout.rglob("*.py"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    again = build(checkout, umask=0o077)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]
    shutil.unpack_archive(built[1], tmp_path / "unpacked", filter="data")
    (sources,) = (tmp_path / "unpacked").iterdir()
    assert build(sources)[0].read_bytes() == built[0].read_bytes()


def test_commands_in_a_folder_with_modules_of_our_names(venv, project):
    assert "train  " in run(venv, project, "mscond", "--help")
    size = ["--max-images=64", "--width=16", "--height=16"]
    said = run(venv, project, "mscond", "dataset", "--source=scenes", "--dest=data.zip", "--workers=2", *size)
    assert "Next: mscond train --outdir=runs --data=data.zip" in said
    tiny = ["--batch=64", "--cmax=8", "--cbase=128", "--map-depth=1", "--tick=0.5", "--metrics=none"]
    processes = ["--workers=2", "--device=cpu"]
    said = run(
        venv, project, "mscond", "train", "--outdir=runs", "--data=data.zip", "--small", "--kimg=1", *tiny, *processes
    )
    assert "To draw images: mscond generate --network=" in said
    (snapshot,) = (project / "runs").glob("*/network-snapshot-000001.pkl")
    run(venv, project, "mscond", "generate", f"--network={snapshot}", "--seeds=0-1", "--outdir=out", "--device=cpu")
    assert {path.name for path in (project / "out").iterdir()} == {"seed0000.png", "seed0001.png"}


LIBRARY = """
import metrics, training
import mscond, numpy
assert mscond.__file__.startswith({venv!r})
numpy.save("images.npy", mscond.load("tiny.pkl", device="cpu").sample([0, 1], truncation=0.5))
assert metrics.OWNER == training.OWNER == "them"
"""


def test_the_library_in_a_program_with_modules_of_our_names(venv, project):
    tiny_snapshot.write(project / "tiny.pkl")
    run(venv, project, "mscond", "generate", "--network=tiny.pkl", "--seeds=0-1", "--trunc=0.5", "--outdir=out")
    for name in ("metrics", "training"):
        (project / name / "__init__.py").write_text("OWNER = 'them'")
    (project / "program.py").write_text(LIBRARY.format(venv=str(venv)))
    run(venv, project, "python", "program.py")
    drawn = [np.asarray(Image.open(project / f"out/seed000{seed}.png")) for seed in range(2)]
    np.testing.assert_array_equal(np.load(project / "images.npy"), drawn)


TINY_PARAMETERS = """
SOURCE = None
PHOTOS = "photos"
OUTDIR = "tutorial"
RESOLUTION_PX = 16
KIMG = 1
TRAINING_FLAGS = ["--cfg=msconD", "--scales=1,4,8", "--batch=32", "--cmax=8", "--cbase=128", "--map-depth=1"]
TRAINING_FLAGS += ["--con-max-anchors=16", "--proj-dim=8", "--tick=0.5", "--snap=1", "--metrics=none"]
TRAINING_FLAGS += ["--workers=0", "--device=cpu"]
TRUNCATION = 0.7
VIDEO_FLAGS = ["--seeds=0-1", "--frames=4"]
"""


def test_the_notebook(venv, tmp_path):
    """Its cells are plain Python, so that neither Jupyter nor a kernel is needed to run them."""
    notebook = json.loads((REPOSITORY / "docs/tutorial.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (parameters,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    parameters["source"] = [TINY_PARAMETERS]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "clear the outputs"
    (tmp_path / "notebook.py").write_text("\n\n".join("".join(cell["source"]) for cell in cells))
    sizes = [(40, 30), (20, 33), (16, 16), (50, 20)]
    photos = {f"{i}.jpg": encode(random_image(i, size), "JPEG") for i, size in enumerate(sizes * 6)}
    write_folder(tmp_path / "photos", {**photos, "damaged.jpg": photos["0.jpg"][:100]})
    run(venv, tmp_path, "python", "notebook.py")
    made = tmp_path / "tutorial"
    with Image.open(made / "images.png") as sheet:
        assert sheet.size == (8 * 16, 2 * 16)
    videos = {path.stem: path for path in (made / "videos").iterdir()}
    assert set(videos) == {"walk", "training"}
    assert all(path.stat().st_size > 500 for path in videos.values())
    assert {path.name for path in (made / "generator").iterdir()} == {"model.safetensors", "config.json", "README.md"}
