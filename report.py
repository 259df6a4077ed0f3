"""Write the page of a run, or one page that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dnnlib.click_command import Command
from dnnlib.console import errors_in_one_line
from dnnlib.errors import UserError
from dnnlib.formatting import printable
from dnnlib.outputs import check_replaceable_file


@click.command(cls=Command)
@click.argument("runs", metavar="RUN [RUN ...]", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The page.  [default: see above]")
@errors_in_one_line()
def main(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write report.html into the folder of a run, or comparison.html here that compares several runs.

    Training writes the page of a run by itself, at every snapshot. This makes it for older runs and for those of
    StyleGAN2-ADA. The page is one file that loads nothing. RUN is the folder of a run, or 'latest' for the latest run
    in runs/.
    """
    # Here: --help must not wait for torch.
    from training.run.lookup import find_reported_run
    from training.run.page.run_page import MAX_RUNS, PAGE_FILE, write_comparison

    if len(runs) > MAX_RUNS:
        raise UserError(f"{len(runs)} runs are too many for a page; give up to {MAX_RUNS}")
    runs = tuple(map(find_reported_run, runs))
    refuse_repetitions(runs)
    path = out or (runs[0] / PAGE_FILE if len(runs) == 1 else Path("comparison.html"))
    check_replaceable_file(path)
    if path.exists() and path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out={path} is a file of another kind; give a name that ends in .html")
    try:
        write_comparison(runs, path)
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror or error}") from error
    print(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser")


def refuse_repetitions(runs: Sequence[Path]) -> None:
    """Refuse to compare a run with itself.

    Raises:
        UserError: Two of the folders are the same.
    """
    first: dict[Path, Path] = {}
    for run in runs:
        before = first.setdefault(run.resolve(), run)
        if before is not run:
            also = "" if before == run else f", as {before}"
            raise UserError(f"{printable(str(run))} is given twice{printable(also)}; name each run once")


if __name__ == "__main__":
    main()
