"""Limits stated in CONTRIBUTING.md, and lists that must be true: the tree of folders, the lock, the packaging."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.helpers import REPOSITORY, repository_files

BINARY = {".npz", ".png", ".safetensors", ".webp", ".zip"}

FILES = repository_files()
SOURCES = [name for name in FILES if name.endswith(".py")]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def stated_limits() -> tuple[int, ...]:
    """The numbers in CONTRIBUTING.md: a file, the longest files, those in snapshots, a function, a kernel."""
    section = re.search(r"## Limits\n(.*?)\n## ", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.DOTALL).group(1)
    return tuple(map(int, re.findall(r"\| (\d+) \|$", section, re.MULTILINE)))


SOFT_LINES, HARD_LINES, PERSISTENT_LINES, FUNCTION_LINES, KERNEL_LINES = stated_limits()
PERSISTENT = {"training/networks.py", "training/augment.py"}


def num_lines(name: str) -> int:
    return len((REPOSITORY / name).read_text().splitlines())


def function_lengths(name: str) -> dict[str, int]:
    """Lines of each function without its docstring, by "file:line name"."""
    lengths = {}
    for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring_lines = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            lengths[f"{name}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1 - docstring_lines
    return lengths


def test_files_are_short():
    limit = {name: PERSISTENT_LINES if name in PERSISTENT else HARD_LINES for name in SOURCES}
    assert not {name: num_lines(name) for name in SOURCES if num_lines(name) > limit[name]}


def test_few_files_pass_the_soft_limit():
    long = {name: num_lines(name) for name in SOURCES if name not in PERSISTENT and num_lines(name) > SOFT_LINES}
    assert len(long) <= len(SOURCES) / 10, long


def test_functions_are_short():
    lengths = {where: lines for name in SOURCES for where, lines in function_lengths(name).items()}
    limit = {where: KERNEL_LINES if where.endswith("_kernel") else FUNCTION_LINES for where in lengths}
    assert not {where: lines for where, lines in lengths.items() if lines > limit[where]}


def test_texts_are_ascii_without_byte_order_mark():
    texts = [name for name in FILES if Path(name).suffix not in BINARY]
    assert not [name for name in texts if not (REPOSITORY / name).read_bytes().isascii()]


def tree_in_docs() -> set[str]:
    """Paths in the tree of docs/architecture.md, whose folders end in "/" and indent what they hold by two."""
    page = (REPOSITORY / "docs/architecture.md").read_text()
    block = re.search(r"## Folders\n.*?```text\n(.*?)```", page, re.DOTALL).group(1)
    paths, folders = set(), []
    for line in block.splitlines():
        name = line.split()[0]
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        paths.add("".join([*folders, name]))
        if name.endswith("/"):
            folders.append(name)
    return paths


def test_docs_list_every_folder_and_script_and_nothing_else():
    scripts = {name for name in SOURCES if "/" not in name}
    folders = {f"{Path(name).parent.as_posix()}/" for name in SOURCES if "/" in name and not name.startswith("tests/")}
    assert tree_in_docs() == scripts | folders | {"docs/", "tests/"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_lock_pins_what_the_project_asks_for():
    lock = (REPOSITORY / "requirements.lock").read_text()
    pinned = {canonical(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    extras = PROJECT["project"]["optional-dependencies"]
    # Extras that neither the demo nor CI needs are not locked.
    groups = [PROJECT["project"]["dependencies"], *(extras[name] for name in ("dev", "tb", "plots", "metrics"))]
    asked = {canonical(Requirement(text).name) for group in groups for text in group} - {PROJECT["project"]["name"]}
    missing = asked - pinned
    assert not missing


def imported_packages(name: str) -> set[str]:
    """First parts of the absolute imports of a source."""
    packages = set()
    for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            packages.add(node.module.split(".")[0])
    return packages


BROUGHT_BY_OTHERS = {
    "triton": ("torch_utils/", "benchmarks/"),  # the CUDA builds of torch
    "scipy": ("msconD/compat.py",),  # the official code
}
"""What some sources may import although no user is asked to install it, and who brings it."""


def test_what_is_imported_is_declared():
    """By what users install: they have no ``dev``."""
    sources = [name for name in SOURCES if not name.startswith("tests/")]
    ours = {Path(name).parts[0].removesuffix(".py") for name in sources}
    extras = PROJECT["project"]["optional-dependencies"]
    groups = [PROJECT["project"]["dependencies"], *(extras[name] for name in extras if name != "dev")]
    declared = {canonical(Requirement(text).name) for group in groups for text in group}
    for name in sources:
        imported = imported_packages(name) - ours - sys.stdlib_module_names
        missing = {canonical({"PIL": "pillow"}.get(package, package)) for package in imported} - declared
        assert {package for package in missing if not name.startswith(BROUGHT_BY_OTHERS.get(package, "/"))} == set(), (
            name
        )


def test_commands_that_install_extras_name_those_there_are():
    texts = [(REPOSITORY / name).read_text() for name in FILES if name.endswith((".py", ".md"))]
    named = {extra for text in texts for extra in re.findall(r"pip install '(?:\.|mscond)\[(\w+)\]'", text)}
    assert "metrics" in named
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_lock_pins_exact_versions_and_names_no_place():
    lines = [line for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .*)?", line)]


def test_packaging_lists_are_complete():
    elsewhere = ("tests/", "benchmarks/", "build_backend/", "package/")
    folders = {Path(name).parent for name in SOURCES if not name.startswith(elsewhere)}
    packages = {"mscond.code.docs"} | {
        f"mscond.code.{folder.as_posix().replace('/', '.')}" for folder in folders if folder != Path()
    }
    scripts = {f"mscond.code.{Path(name).stem}" for name in SOURCES if Path(name).parent == Path()}
    declared = PROJECT["tool"]["setuptools"]
    assert (set(declared["packages"]), set(declared["py-modules"])) == ({"mscond", *packages}, scripts)
    assert declared["package-dir"] == {"mscond": "package", "mscond.code": "."}


@pytest.mark.parametrize("name", [".ci/run", "docker_run.sh"])
def test_shell_scripts_are_executable(name):
    assert (REPOSITORY / name).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", REPOSITORY / name], check=True)
