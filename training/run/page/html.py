"""HTML in which text is escaped unless it is `Html` already, and pages that load nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_VOID = {"img", "meta", "br", "link", "input"}
IMAGE_PX = 512
"""Images of at most half of this width are enlarged, by a whole number."""


class Html(str):
    """Markup, as opposed to text that must be escaped."""

    __slots__ = ()


def text(value: str) -> Html:
    """Escape text, unless it is markup; control characters are shown as ``?``, since browsers refuse them."""
    if isinstance(value, Html):
        return value
    return Html(html.escape("".join(char if char.isprintable() or char == "\n" else "?" for char in value)))


def tag(name: str, /, *children: str | None, **attributes: str | bool | None) -> Html:
    """Return an element.

    Args:
        name: Name of the element.
        *children: Text, which is escaped, and markup; None is left out.
        **attributes: A trailing underscore is dropped and others become hyphens, so that ``class_`` and ``data_source``
            can be given. True stands alone; False and None are left out.
    """
    parts = [name]
    for key, value in attributes.items():
        shown = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(shown)
        elif value is not None and value is not False:
            parts.append(f'{shown}="{text(value)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if name in _VOID else f"{opening}{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Join text, which is escaped, and markup."""
    return Html("".join(text(child) for child in children if child is not None))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Html:
    """Return a table that scrolls sideways on narrow screens; a cell that is a ``td`` already is kept as it is.

    The first cell of a row is its heading.
    """
    heads = [tag("th", head, scope="col") for head in header]
    body = [tag("tr", tag("th", first, scope="row"), *map(_cell, rest)) for first, *rest in rows]
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cell(content: str) -> Html:
    is_cell = isinstance(content, Html) and content.startswith("<td")
    return text(content) if is_cell else tag("td", content)


def image(data: bytes, mime: str, alt: str, width_px: int, height_px: int) -> Html:
    """Return an image whose bytes are part of the page; a small one is shown enlarged."""
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    scale = max(IMAGE_PX // width_px, 1)
    return tag("img", src=source, alt=alt, width=str(width_px * scale), height=str(height_px * scale))


def embed_json(values: Any) -> Html:
    """Write JSON such that no string in it can end the script element that holds it."""
    written = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return Html(written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def document(title: str, *body: str, scripts: Sequence[str] = ()) -> Html:
    """Return a whole page: with its styles and scripts, and forbidden to load or to send anything.

    Args:
        title: Heading and title.
        *body: What stands below the heading.
        scripts: Further scripts in this folder, besides those that draw charts.
    """
    codes = [_asset(name) for name in ("uPlot.iife.min.js", "charts.js", *scripts)]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in codes)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"
    license = Html(f"<!-- uPlot, which draws the curves:\n{_asset('uPlot.LICENSE')}\n-->\n")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(_asset("uPlot.min.css") + _asset("style.css"))),
    )
    main = tag("main", tag("h1", title), *body)
    page = tag("html", head, tag("body", main, *(tag("script", Html(code)) for code in codes)), lang="en")
    return Html(f"<!doctype html>\n{license}{page}\n")


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="ascii")
