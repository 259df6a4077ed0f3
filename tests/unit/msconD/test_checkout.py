"""What makes a checkout fit for the method: the names in this repository do, and each that is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from msconD.checkout import CALLED_BY_CHECKOUT, PACKAGES, REQUIRED, missing_package, missing_part, signatures
from tests.helpers import REPOSITORY

CASES = [(name, function) for name, functions in REQUIRED.items() for function in functions]
ARGUMENTS = [(name, function, argument) for name, function in CASES for argument in REQUIRED[name][function]]


def source(functions: dict[str, tuple[str, ...]]) -> str:
    """Python source with these functions and methods."""
    lines: list[str] = []
    for function, arguments in functions.items():
        owner, _, method = function.rpartition(".")
        taken = ", ".join(("self", *arguments) if owner else arguments)
        if owner and f"class {owner}:" not in lines:
            lines.append(f"class {owner}:")
        lines.append(f"{'    ' * bool(owner)}def {method}({taken}): pass")
    return "\n".join(lines) + "\n"


def write_checkout(folder: Path) -> Path:
    """A folder with as much of StyleGAN2-ADA as the checks ask for."""
    for package in PACKAGES:
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").touch()
    for name, functions in REQUIRED.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source(functions))
    for script in ("train.py", "generate.py"):
        (folder / script).touch()
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path)


def test_a_complete_checkout(checkout: Path) -> None:
    assert missing_package(checkout) is None
    assert missing_part(checkout) is None


def test_this_repository_has_the_names_that_its_contract_with_stylegan2_ada_lists() -> None:
    for name, functions in REQUIRED.items():
        if name != "training/training_loop.py":  # whose arguments are declared elsewhere
            found = signatures((REPOSITORY / name).read_bytes())
            for function, arguments in functions.items():
                assert set(arguments) <= set(found[function]), function


def test_packages(checkout: Path) -> None:
    (checkout / "torch_utils/__init__.py").unlink()
    assert missing_package(checkout) == "torch_utils/__init__.py"


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_files(checkout: Path, name: str) -> None:
    (checkout / name).unlink()
    assert missing_part(checkout) == f"{name} is missing"


@pytest.mark.parametrize("text", ["def f(:", "\0", "\xff"])
def test_files_that_are_not_python(checkout: Path, text: str) -> None:
    (checkout / "training/loss.py").write_bytes(text.encode("latin1"))
    assert missing_part(checkout) == "training/loss.py is not valid Python"


@pytest.mark.parametrize(("name", "function"), CASES)
def test_missing_functions(checkout: Path, name: str, function: str) -> None:
    (checkout / name).write_text(source({key: value for key, value in REQUIRED[name].items() if key != function}))
    assert missing_part(checkout) == f"{name} has no {function}"


@pytest.mark.parametrize(("name", "function", "argument"), ARGUMENTS)
def test_missing_arguments(checkout: Path, name: str, function: str, argument: str) -> None:
    fewer = tuple(each for each in REQUIRED[name][function] if each != argument)
    (checkout / name).write_text(source({**REQUIRED[name], function: fewer}))
    assert missing_part(checkout) == f"{function} in {name} has no argument {argument}"


@pytest.mark.parametrize("argument", ["cl_phases", "*args", "**kwargs"])
def test_further_arguments_of_what_the_loop_calls(checkout: Path, argument: str) -> None:
    functions = REQUIRED["training/loss.py"]
    more = {**functions, CALLED_BY_CHECKOUT: (*functions[CALLED_BY_CHECKOUT], argument)}
    (checkout / "training/loss.py").write_text(source(more))
    name = argument.lstrip("*")
    assert missing_part(checkout) == f"{CALLED_BY_CHECKOUT} in training/loss.py has a further argument {name}"


def test_further_arguments_of_others_do_no_harm(checkout: Path) -> None:
    functions = {function: (*arguments, "more") for function, arguments in REQUIRED["training/networks.py"].items()}
    (checkout / "training/networks.py").write_text(source(functions))
    assert missing_part(checkout) is None


def test_decorated_and_keyword_only_arguments_count() -> None:
    text = b"@decorator\nclass A:\n    @other\n    def f(self, a, /, b, *c, d, **e): pass\n"
    assert signatures(text) == {"A.f": ["self", "a", "b", "d", "c", "e"]}


def test_imported_functions_count() -> None:
    assert signatures(b"from a import f, g as h\nimport i\n") == {"f": [], "h": []}


def test_inherited_methods_count_unless_they_are_overridden() -> None:
    text = b"class A:\n    def f(self, a): pass\n    def g(self, a): pass\nclass B(A):\n    def g(self): pass\n"
    assert {name: found for name, found in signatures(text).items() if name[0] == "B"} == {
        "B.f": ["self", "a"],
        "B.g": ["self"],
    }
