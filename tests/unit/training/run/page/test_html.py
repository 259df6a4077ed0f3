"""Markup from texts, which cannot break out of it, and pages that load nothing."""

import base64
import hashlib
import json
import re

from training.run.page.html import Html, document, embed_json, image, join, table, tag, text


def test_texts_are_escaped_and_markup_is_not():
    assert tag("p", "a < b & 'c'", Html("<b>d</b>")) == "<p>a &lt; b &amp; &#x27;c&#x27;<b>d</b></p>"
    assert tag("p", tag("i", "<script>")) == "<p><i>&lt;script&gt;</i></p>"
    assert join("<", None, Html("<")) == "&lt;<"


def test_control_characters_are_shown_as_questions():
    assert text("a\x1b[31m\x00\u202eb\nc") == "a?[31m??b\nc"


def test_attributes():
    assert tag("a", "x", href='"><script>', class_="b", data_timing=True, hidden=False, id=None) == (
        '<a href="&quot;&gt;&lt;script&gt;" class="b" data-timing>x</a>'
    )
    assert tag("a", name="b") == '<a name="b"></a>'
    assert tag("meta", http_equiv="c") == '<meta http-equiv="c">'


def test_tables_have_headings():
    found = table(["method", "value"], [["a<", tag("td", "1", class_="x")], ["b", "2"]], "All")
    assert "<caption>All</caption>" in found
    assert '<th scope="col">method</th>' in found
    assert '<th scope="row">a&lt;</th><td class="x">1</td>' in found
    assert "<td>2</td>" in found


def test_a_text_that_looks_like_a_cell_is_none():
    assert "<td>&lt;td&gt;1" in table(["a"], [["b", "<td>1"]], "All")


def test_json_cannot_end_its_script():
    written = embed_json({"a": "</script><!--&"})
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"a": "</script><!--&"}


def test_images_are_part_of_the_page():
    found = image(b"abc", "image/webp", 'say "cheese"', 300, 400)
    assert found == '<img src="data:image/webp;base64,YWJj" alt="say &quot;cheese&quot;" width="300" height="400">'


def test_small_images_are_enlarged_by_a_whole_number():
    assert image(b"", "image/webp", "", 200, 32).endswith('width="400" height="64">')


def test_documents_run_their_own_scripts_only():
    page = document("A < B", tag("p", "c"))
    assert page.startswith("<!doctype html>")
    assert "<title>A &lt; B</title>" in page
    assert "<h1>A &lt; B</h1><p>c</p>" in page
    assert "Permission is hereby granted" in page  # uPlot's license goes with it
    policy = re.search(r"default-src [^>]*script-src ([^>]*)\"", page)[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(digests) == 2
    assert policy == " ".join(f"&#x27;sha256-{digest}&#x27;" for digest in digests)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
