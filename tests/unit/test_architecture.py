"""Imports run downward from layer to layer and never in a circle; docs/architecture.md draws the same picture.

Every import counts: at the top of a module, inside a function, under TYPE_CHECKING, and ``importlib.import_module``
with a literal name. To add a part or to move one, change `LAYERS` and write the diagram again::

    python -m tests.unit.test_architecture
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.helpers import REPOSITORY, repository_files

PAGE = REPOSITORY / "docs/architecture.md"


@dataclass(frozen=True)
class Part:
    """Modules of one layer; they and their neighbors on that layer may import each other, but not in a circle."""

    name: str
    holds: str
    """What the diagram says of it."""
    places: tuple[str, ...]
    """Files, and folders, which end in "/"; a file belongs to the part with the longest place that fits."""
    without: tuple[str, ...] = ()
    """Packages of other projects that it does not import."""


CORE = (
    *("networks", "augment", "extensions", "loss", "dataset", "phases", "gradients", "ada", "ema", "batches", "round"),
    *("checkpoint", "checkpoint_names", "image_grid", "stop_request"),
)
SCRIPTS = (
    *("train", "generate", "style_mixing", "projector", "edit", "calc_metrics", "dataset_tool", "legacy", "demo"),
    *("compare", "report"),
)

LAYERS: tuple[tuple[Part, ...], ...] = (
    (Part("dnnlib", "files, downloads, objects by name; without torch", ("dnnlib/",), without=("torch",)),),
    (Part("torch_utils", "operations on tensors, processes, statistics, pickled classes", ("torch_utils/",)),),
    (Part("metrics", "feature networks, statistics, scores", ("metrics/",)),),
    (Part("training/data/scenes", "the drawn dataset", ("training/data/scenes/",)),),
    (Part("training/data", "datasets: read, prepared, written, verified", ("training/data/",)),),
    (
        Part(
            "training (core)",
            "networks, augmentation, loss, the parts of one iteration",
            ("training/__init__.py", *(f"training/{name}.py" for name in CORE)),
        ),
    ),
    (
        Part("training/snapshots", "networks to files and back", ("training/snapshots/",)),
        Part("training/run", "presets, options, run folders, logs", ("training/run/",)),
        Part("training/inference", "images from trained networks", ("training/inference/",)),
    ),
    (Part("training_loop, launch", "a whole run", ("training/training_loop.py", "training/run/launch.py")),),
    (
        Part("msconD", "the method", ("msconD/",)),
        Part("baselines", "the methods it is compared with", ("baselines/",)),
    ),
    (Part("comparison", "methods and seeds side by side, on one page", ("comparison/",)),),
    (Part("scripts", "the commands", tuple(f"{name}.py" for name in SCRIPTS)),),
    (Part("package", "what is installed: one name, one command", ("package/",)),),
    (
        Part("benchmarks, tests", "import anything", ("benchmarks/", "tests/")),
        Part("build_backend", "makes the wheel", ("build_backend/",)),
    ),
)
"""The parts, from bottom to top."""

PARTS = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}


def part_of(path: str) -> Part | None:
    """The part that a file is in."""
    fits = {
        place: part
        for part in PARTS
        for place in part.places
        if path == place or (place.endswith("/") and path.startswith(place))
    }
    return fits[max(fits, key=len)] if fits else None


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of whatever a source imports: modules, and names in modules."""
    package = path.split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = [*start, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))


def module_in(name: str, modules: Mapping[str, str]) -> str | None:
    """The module of ours that holds a dotted name; None for a name of another project."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def find_faults(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of sources by path: a line each, the circle last."""
    modules = {module_name(path): path for path in sources}
    faults = [f"{path}: belongs to no part" for path in sources if part_of(path) is None]
    graph: dict[str, set[str]] = {}
    for path in sources:
        part = part_of(path)
        if part is None or path.startswith("tests/"):
            continue
        for line, name in imports(path, sources[path]):
            target = module_in(name, modules)
            if target is None:
                package = name.partition(".")[0]
                faults += [f"{path}:{line}: {part.name} does without {package}"] * (package in part.without)
                continue
            target_part = part_of(modules[target])
            if target_part is not None and PARTS[target_part] > PARTS[part]:
                faults.append(f"{path}:{line}: imports {target}, but {part.name} is below {target_part.name}")
            graph.setdefault(module_name(path), set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        faults.append(f"circle: {' <- '.join(error.args[1])}")
    return faults


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {path: (REPOSITORY / path).read_text() for path in repository_files() if path.endswith(".py")}


def test_imports_run_downward_and_in_no_circle(sources):
    assert not find_faults(sources)


def test_lazy_imports_are_read(sources):
    found = {name for _line, name in imports("train.py", sources["train.py"])}
    assert {"dnnlib.errors.UserError", "training.run.launch.train_run"} <= found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dnnlib/util.py", "import torch_utils.misc"),
        ("dnnlib/util.py", "import torch"),
        ("dnnlib/util.py", "from torch.nn import functional"),
        ("torch_utils/misc.py", "from training.networks import Generator"),
        ("torch_utils/misc.py", "def f():\n    from training import networks"),
        ("metrics/cache.py", "if TYPE_CHECKING:\n    from training.dataset import Dataset"),
        ("metrics/cache.py", "import importlib\nimportlib.import_module('training.dataset')"),
        ("metrics/cache.py", "from importlib import import_module\nimport_module('training.data.codec')"),
        ("training/data/scenes/scene.py", "from .. import codec"),
        ("training/data/scenes/scene.py", "from ..codec import decode"),
        ("training/data/codec.py", "from training import dataset"),
        ("training/networks.py", "class A:\n    def f(self):\n        import training.snapshots.save as save"),
        ("training/run/options.py", "from training.training_loop import training_loop"),
        ("training/run/options.py", "from . import launch"),
        ("training/training_loop.py", "from msconD import loss"),
        ("msconD/loss.py", "import train"),
        ("train.py", "from tests import helpers"),
        ("training/anything.py", ""),
        ("anything/new.py", ""),
    ],
)
def test_what_is_refused(sources, path, source):
    skeleton = dict.fromkeys(sources, "")
    (fault,) = find_faults({**skeleton, path: source})
    assert fault.startswith(path)


@pytest.mark.parametrize(
    "edges",
    [
        {
            "training/run/options.py": "from training.run import presets",
            "training/run/presets.py": "from . import options",
        },
        {
            "training/snapshots/save.py": "def f():\n    import training.run.options",
            "training/run/options.py": "if TYPE_CHECKING:\n    from training.inference.options import tools",
            "training/inference/options.py": "from training.snapshots.save import save_snapshot",
        },
        {"train.py": "import generate", "generate.py": "import projector", "projector.py": "import train"},
    ],
)
def test_circles_are_refused(sources, edges):
    faults = find_faults({**dict.fromkeys(sources, ""), **edges})
    assert [fault.partition(":")[0] for fault in faults] == ["circle"]
    assert set(re.findall(r"[\w.]+", faults[0].partition(":")[2])) == {module_name(path) for path in edges}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dnnlib/util.py", "import numpy, PIL.Image"),
        ("training/training_loop.py", "from training.run.log import RunLog\nfrom training.snapshots import save"),
        ("training/snapshots/load.py", "from training.run import options"),
        ("training/run/launch.py", "from training.training_loop import training_loop"),
        ("msconD/loss.py", "from training.loss import StyleGAN2Loss\nfrom torch_utils import misc"),
        ("demo.py", "import train\nimport generate"),
        ("benchmarks/train_step.py", "import tests.helpers, train"),
        ("tests/helpers.py", "import train"),
    ],
)
def test_what_is_allowed(sources, path, source):
    assert not find_faults({**dict.fromkeys(sources, ""), path: source})


def render() -> str:
    """The parts that have files, as a Mermaid flowchart from top to bottom; an arrow means "may import"."""
    inhabited = {part_of(path) for path in repository_files()}
    lines, upper = ["```mermaid", "flowchart TD"], ""
    for layer in reversed(LAYERS[:-1]):  # nothing imports benchmarks and tests
        parts = {re.sub(r"\W+", "_", part.name).strip("_"): part for part in layer if part in inhabited}
        lines += [f'    {name}["<b>{part.name}</b><br>{part.holds}"]' for name, part in parts.items()]
        lower = " & ".join(parts)
        lines += [f"    {upper} --> {lower}"] * bool(upper)
        upper = lower
    return "\n".join([*lines, "```"])


def test_the_page_shows_these_parts():
    assert render() in PAGE.read_text(), "write it again: python -m tests.unit.test_architecture"


if __name__ == "__main__":
    PAGE.write_text(re.sub(r"```mermaid\n.*?```", render(), PAGE.read_text(), flags=re.DOTALL))
