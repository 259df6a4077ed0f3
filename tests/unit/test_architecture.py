"""Imports run downward from room to room and never in a circle; docs/architecture.md draws the same rooms.

Every import counts: at the top of a module, inside a function, under TYPE_CHECKING, and ``importlib.import_module``
with a literal name. To add a room or to move one, change `LEVELS` and write the diagram again::

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
class Room:
    """Modules of one level; they and their neighbours on that level may import each other, but not in a circle."""

    name: str
    holds: str
    """What the diagram says of it."""
    places: tuple[str, ...]
    """Files, and folders, which end in "/"; a file belongs to the room with the longest place that fits."""
    without: tuple[str, ...] = ()
    """Packages of other projects that it does not import."""


CORE = (
    *("networks", "augment", "extensions", "loss", "dataset", "phases", "ada", "ema", "batches"),
    *("checkpoint", "checkpoint_names", "image_grid", "stop_request"),
)
SCRIPTS = (
    *("train", "generate", "style_mixing", "projector", "edit", "calc_metrics", "dataset_tool", "legacy", "demo"),
    *("compare", "report"),
)

LEVELS: tuple[tuple[Room, ...], ...] = (
    (Room("dnnlib", "files, downloads, objects by name; without torch", ("dnnlib/",), without=("torch",)),),
    (Room("torch_utils", "operations on tensors, processes, statistics, pickled classes", ("torch_utils/",)),),
    (Room("metrics", "feature networks, statistics, scores", ("metrics/",)),),
    (Room("training/data/scenes", "the drawn dataset", ("training/data/scenes/",)),),
    (Room("training/data", "datasets: read, prepared, written, verified", ("training/data/",)),),
    (
        Room(
            "training (core)",
            "networks, augmentation, loss, the parts of one iteration",
            ("training/__init__.py", *(f"training/{name}.py" for name in CORE)),
        ),
    ),
    (
        Room("training/snapshots", "networks to files and back", ("training/snapshots/",)),
        Room("training/run", "presets, options, run folders, logs", ("training/run/",)),
        Room("training/inference", "images from trained networks", ("training/inference/",)),
    ),
    (Room("training_loop, launch", "a whole run", ("training/training_loop.py", "training/run/launch.py")),),
    (
        Room("msconD", "the method", ("msconD/",)),
        Room("baselines", "its rivals", ("baselines/",)),
    ),
    (Room("comparison", "methods and seeds side by side, on one page", ("comparison/",)),),
    (Room("scripts", "the commands", tuple(f"{name}.py" for name in SCRIPTS)),),
    (Room("package", "what is installed: one name, one command", ("package/",)),),
    (
        Room("benchmarks, tests", "import anything", ("benchmarks/", "tests/")),
        Room("build_backend", "makes the wheel", ("build_backend/",)),
    ),
)
"""The rooms, from bottom to top."""

ROOMS = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room_of(path: str) -> Room | None:
    """The room that a file is in."""
    fits = {
        place: room
        for room in ROOMS
        for place in room.places
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
    faults = [f"{path}: belongs to no room" for path in sources if room_of(path) is None]
    graph: dict[str, set[str]] = {}
    for path in sources:
        room = room_of(path)
        if room is None or path.startswith("tests/"):
            continue
        for line, name in imports(path, sources[path]):
            target = module_in(name, modules)
            if target is None:
                package = name.partition(".")[0]
                faults += [f"{path}:{line}: {room.name} does without {package}"] * (package in room.without)
                continue
            target_room = room_of(modules[target])
            if target_room is not None and ROOMS[target_room] > ROOMS[room]:
                faults.append(f"{path}:{line}: imports {target}, but {room.name} is below {target_room.name}")
            graph.setdefault(module_name(path), set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        faults.append(f"circle: {' <- '.join(error.args[1])}")
    return faults


# --- the repository ---


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {path: (REPOSITORY / path).read_text() for path in repository_files() if path.endswith(".py")}


def test_imports_run_downward_and_in_no_circle(sources):
    assert not find_faults(sources)


def test_lazy_imports_are_read(sources):
    found = {name for _line, name in imports("train.py", sources["train.py"])}
    assert {"dnnlib.util.UserError", "training.run.launch.train_run"} <= found


# --- the checker ---


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


# --- the picture ---


def render() -> str:
    """The rooms that have files, as a Mermaid flowchart from top to bottom; an arrow means "may import"."""
    inhabited = {room_of(path) for path in repository_files()}
    lines, upper = ["```mermaid", "flowchart TD"], ""
    for level in reversed(LEVELS[:-1]):  # nothing imports benchmarks and tests
        rooms = {re.sub(r"\W+", "_", room.name).strip("_"): room for room in level if room in inhabited}
        lines += [f'    {name}["<b>{room.name}</b><br>{room.holds}"]' for name, room in rooms.items()]
        lower = " & ".join(rooms)
        lines += [f"    {upper} --> {lower}"] * bool(upper)
        upper = lower
    return "\n".join([*lines, "```"])


def test_the_page_shows_these_rooms():
    assert render() in PAGE.read_text(), "write it again: python -m tests.unit.test_architecture"


if __name__ == "__main__":
    PAGE.write_text(re.sub(r"```mermaid\n.*?```", render(), PAGE.read_text(), flags=re.DOTALL))
