"""A copy of the records of a comparison to publish: what ``--draw`` needs, no weights, paths or names of machines."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from comparison.jobs import BOXES, MANIFEST, SAMPLES, find_run
from comparison.methods import Method
from comparison.picture_records import record_file
from comparison.plan import PLAN_FILE, Plan
from comparison.samples import real_images
from dnnlib.atomic import write_atomic
from dnnlib.errors import UserError
from dnnlib.json_file import write_json
from dnnlib.jsonl import read_lines
from metrics.results import results_files
from training.data.grid import write_png
from training.run.json_files import read_small_file
from training.run.names import REALS_FILE
from training.run.options_file import OPTIONS_FILE
from training.run.stats_file import STATS_FILE
from training.run.status import OF_THE_MACHINE, STATUS_FILE

COPY = "is_copy"
"""A key of the plan."""

Places = dict[Path, tuple[Method, Path]]
"""By the folder of a run: its method as the copy names it, and the folder in the copy."""


def copy_records(plan: Plan, dest: Path) -> list[Path]:
    """Copy the records of all runs into a folder that ``compare.py --draw`` takes as ``--outdir``.

    Runs that have not begun are left out of the copy, but not of its plan: the page says that they are missing.

    Args:
        plan: The comparison.
        dest: The folder: a new one, an empty one, or an earlier copy, whose files are replaced.

    Returns:
        The files.

    Raises:
        UserError: The folder is that of the comparison, or lies in it, or holds something else; a record is damaged; or
            two methods differ by the folders of their files alone.
    """
    _check_folder(plan, dest)
    places = _places(plan, dest)
    named = {
        "cfgs": list(dict.fromkeys(method.label for method, _target in places.values())),
        "folders": [str(target.relative_to(dest)) for _method, target in places.values()],
        COPY: True,
    }
    files = [_write_json(dest / PLAN_FILE, named)]
    for folder, (method, target) in places.items():
        files.append(_copy_json(folder / MANIFEST, target / MANIFEST, method=method.label))
        if (run_dir := find_run(folder)) is not None:
            files += _copy_run(run_dir, target / run_dir.name)
    return [*files, *_copy_pictures(plan, places), *_copy_reals(plan, places)]


def _check_folder(plan: Plan, dest: Path) -> None:
    if dest.resolve().is_relative_to(plan.outdir.resolve()):
        raise UserError(f"--records={dest}: choose a folder outside of {plan.outdir}")
    if not dest.is_dir() or not any(dest.iterdir()):
        return
    try:
        is_copy = COPY in json.loads(read_small_file(dest / PLAN_FILE))
    except (OSError, ValueError, TypeError, RecursionError):
        is_copy = False
    if not is_copy:
        raise UserError(f"--records={dest} holds files that are not an earlier copy; choose a new or an empty folder")


def _places(plan: Plan, dest: Path) -> Places:
    places = {}
    for method in plan.methods:
        shown = Method(method.cfg, tuple((name, without_paths(value)) for name, value in method.options))
        places.update(
            {folder: (shown, dest / shown.folder / f"seed{job.seed}") for folder, job in plan.of(method).items()}
        )
    targets = [target for _method, target in places.values()]
    for method, target in places.values():
        if targets.count(target) > 1:
            raise UserError(
                f"--records: without folders two methods would be called {method.label}; rename their files"
            )
    return {folder: places[folder] for folder in plan.jobs}


def _copy_run(run_dir: Path, target: Path) -> Iterator[Path]:
    if (run_dir / OPTIONS_FILE).is_file():
        yield _copy_json(run_dir / OPTIONS_FILE, target / OPTIONS_FILE)
    if (run_dir / STATUS_FILE).is_file():
        yield _copy_json(run_dir / STATUS_FILE, target / STATUS_FILE, left_out=OF_THE_MACHINE)
    for path in sorted([run_dir / STATS_FILE, *results_files(run_dir)]):
        lines = dict(_shown_lines(path))
        # A damaged line leaves an empty one: the numbers of lines are what the page refers to.
        text = "".join(lines.get(number, "") + "\n" for number in range(1, max(lines, default=0) + 1))
        target.mkdir(parents=True, exist_ok=True)
        write_atomic(target / path.name, text.encode())
        yield target / path.name


def _shown_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, record in read_lines(path):
        with contextlib.suppress(RecursionError):  # nested more deeply than any record
            yield number, json.dumps(without_paths(record))


def _copy_pictures(plan: Plan, places: Places) -> Iterator[Path]:
    """Copy the pictures that the page shows of each method: those of its first seed that has any."""
    for method in plan.methods:
        for name in (SAMPLES, BOXES):
            folder = next((each for each in plan.of(method) if (each / name).is_file()), None)
            if folder is not None and (record := record_file(folder / name)).is_file():
                _method, target = places[folder]
                yield _copy(folder / name, target / name)
                yield _copy_json(record, target / record.name)


def _copy_reals(plan: Plan, places: Places) -> Iterator[Path]:
    """Copy the real images that the page shows: some of those of the first run that has any."""
    for folder, job in plan.jobs.items():
        reals = (find_run(folder) or folder) / REALS_FILE
        shown = real_images(reals, job.dataset["resolution"]) if reals.is_file() else None
        if shown is not None:
            _method, target = places[folder]
            write_png(shown, target / reals.relative_to(folder))
            yield target / reals.relative_to(folder)
            return


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source, target))


def _copy_json(source: Path, target: Path, left_out: Sequence[str] = (), **changes: Any) -> Path:
    try:
        content = json.loads(read_small_file(source))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} cannot be read ({str(error)[:100]!a})") from error
    if isinstance(content, dict):
        content = {key: value for key, value in {**content, **changes}.items() if key not in left_out}
    return _write_json(target, without_paths(content))


def _write_json(target: Path, value: Any) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, value, indent=1)
    return target


def without_paths(value: Any) -> Any:
    """Replace every absolute path in a JSON value by its last part: ``/home/me/cats.zip`` by ``cats.zip``.

    Also in flags: ``--data=/home/me/cats.zip``.
    """
    if isinstance(value, dict):
        return {key: without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_paths(each) for each in value]
    if isinstance(value, str):
        flag, sign, path = value.partition("=") if value.startswith("--") else ("", "", value)
        return flag + sign + (Path(path).name if Path(path).is_absolute() else path)
    return value
