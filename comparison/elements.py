"""Elements that sections of the page share: headings, and numbers that link to the records of their runs."""

from __future__ import annotations

from comparison.summary import Cell, MethodResult
from training.run.page.html import Html, tag


def section(title: str, *content: str) -> Html:
    """Return a section below a heading."""
    return tag("section", tag("h2", title), *content)


def number_cell(result: MethodResult, cell: Cell, is_timing: bool = False, bar: Html | None = None) -> Html:
    """Return a cell of a table: the number of a method, its records, and a bar beside it if one is given."""
    content: str = cell.text
    if cell.values:
        content = tag("a", cell.text, href=f"#{records_anchor(result)}", title=cell.sources)
    return tag("td", content, bar, data_timing=is_timing, data_records=cell.sources)


def records_anchor(result: MethodResult) -> str:
    """Return the id of the list of a method's records."""
    return f"records-{result.method.folder}"
