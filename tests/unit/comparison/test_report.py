"""The page and the table: complete, escaped, self-contained, and every number with a record that holds it."""

import io
import json
import re
import struct
import urllib.parse
import zlib
from html.parser import HTMLParser

import PIL.Image
import pytest

from comparison.plan import read_plan
from comparison.report import write_report
from tests.unit.comparison.fake_runs import write_comparison


def _png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (32, 32), "red").save(buffer, format="PNG")
    return buffer.getvalue()


PNG = _png()
SIZE = b"IHDR" + struct.pack(">II", 30000, 30000) + PNG[24:29]
HUGE = PNG[:12] + SIZE + struct.pack(">I", zlib.crc32(SIZE)) + PNG[33:]
"""Says that it has 900 million pixels."""


class Page(HTMLParser):
    """All elements as (name, attributes, text of the element itself)."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in ("meta", "img"):
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2].append(data)

    def all(self, name):
        return [(attrs, "".join(words)) for tag, attrs, words in self.elements if tag == name]


@pytest.fixture
def outdir(tmp_path):
    return write_comparison(tmp_path)


@pytest.fixture
def page(outdir):
    write_report(read_plan(outdir), {})
    return Page((outdir / "comparison.html").read_text())


def test_sections(page):
    titles = [text for _attrs, text in page.all("h2")]
    assert titles == [
        *("fd_tiny", "Objects by category", "Cost", "Logits by scale", "Samples"),
        *("How to read this", "Records"),
    ]
    assert len(page.all("img")) == 3  # real images and two methods
    assert all(attrs["alt"] for attrs, _text in page.all("img"))
    assert [attrs["lang"] for attrs, _text in page.all("html")] == ["en"]


def test_nothing_is_loaded(page):
    sources = [attrs[key] for _tag, attrs, _text in page.elements for key in ("src",) if key in attrs]
    assert all(source.startswith("data:image/") for source in sources)
    assert not page.all("link")
    assert not page.all("iframe")
    links = {attrs["href"] for attrs, _text in page.all("a")}
    assert not [link for link in links if "//" in link or link.startswith("/")]
    (policy,) = [attrs["content"] for attrs, _text in page.all("meta") if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'")


def test_links_to_records_lead_somewhere(outdir):
    run_dir = next(outdir.glob("stylegan2/seed0/0*"))
    run_dir.rename(run_dir.with_name("00000-a b#1+c=2,50%25?"))
    write_report(read_plan(outdir), {})
    page = Page((outdir / "comparison.html").read_text())
    links = {attrs["href"] for attrs, _text in page.all("a") if not attrs["href"].startswith("#")}
    assert [link for link in links if "/00000-a%20b%231" in link]
    for link in links:
        url = urllib.parse.urlsplit(link)
        assert (outdir / urllib.parse.unquote(url.path)).is_file()
        assert url.query + url.fragment == ""


def test_links_within_the_page_lead_somewhere(page):
    names = {attrs.get("id") for _tag, attrs, _text in page.elements}
    targets = {attrs["href"][1:] for attrs, _text in page.all("a") if attrs["href"].startswith("#")}
    assert targets
    assert targets <= names


def test_every_value_stands_in_its_record(page, outdir):
    checked = 0
    for attrs, text in page.all("td"):
        if re.fullmatch(r"[\w./+=-]+:\d+", attrs.get("data-records") or ""):
            file, _, line = attrs["data-records"].rpartition(":")
            record = (outdir / file).read_text().splitlines()[int(line) - 1]
            assert re.search(rf'": {re.escape(text)}(\.0)?[,}}\d]', record), (text, record)
            checked += 1
    assert checked == 2 * 2 * 2 * 3  # methods, seeds, scores, snapshots


def test_every_mean_names_its_records(page, outdir):
    cells = [attrs for attrs, _text in page.all("td") if "; seed 1" in (attrs.get("data-records") or "")]
    assert len(cells) == 2 * (5 + 1 + 2 + 1)  # methods; columns of score, objects, costs, logits
    for attrs in cells:
        files = re.findall(r"([\w./+=-]+):\d+", attrs["data-records"].replace("seed 0:", "").replace("seed 1:", ""))
        assert len(files) >= 2
        assert all((outdir / file).is_file() for file in files)


def test_texts_are_escaped(outdir):
    failures = {outdir / "stylegan2/seed0": "<script>alert(1)</script> | *bold* \x1b[31m"}
    write_report(read_plan(outdir), failures)
    text = (outdir / "comparison.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "a&lt;b&gt;&amp;" in text  # the name of the dataset
    assert "\x1b" not in text + (outdir / "comparison.md").read_text()
    assert r"\<script\>alert(1)\</script\> \| \*bold\*" in (outdir / "comparison.md").read_text()


def test_markdown(outdir):
    write_report(read_plan(outdir), {})
    rows = [re.split(r" \| ", line.strip("| ")) for line in (outdir / "comparison.md").read_text().split("\n")[:6]]
    assert {len(row) for row in rows} == {10}
    value = "14.00 \N{PLUS-MINUS SIGN} 2.83"
    second = "18.00 \N{PLUS-MINUS SIGN} 2.83"
    assert rows[2][:7] == ["fd\\_tiny", "stylegan2", "2", second, f"{value} (3.008 kimg)", f"{value} (30s)", value]
    others = ["9.000 \N{PLUS-MINUS SIGN} 2.121", "7.000 \N{PLUS-MINUS SIGN} 2.828 (3.008 kimg)"]
    assert rows[3][:5] == ["fd\\_tiny", "msconD+con-weight=0.1", "2", *others]
    assert rows[5][0] == "okd\\_tiny\\_car"


def test_drawing_again_gives_the_same_files(outdir):
    first = [path.read_bytes() for path in write_report(read_plan(outdir), {})]
    assert [path.read_bytes() for path in write_report(read_plan(outdir), {})] == first


def test_what_is_not_complete_is_said(outdir):
    (outdir / "stylegan2/seed1/00000-scenes/exit_status.json").unlink()
    write_report(read_plan(outdir), {outdir / "stylegan2/seed0": "train.py ended with exit status 1"})
    page = Page((outdir / "comparison.html").read_text())
    items = [text for _attrs, text in page.all("li")]
    assert "stylegan2, seed 0: failed: train.py ended with exit status 1" in items
    assert any(item.startswith("stylegan2, seed 1: scored") for item in items)
    assert "Not complete" in (outdir / "comparison.md").read_text()


def test_scores_that_favor_a_method(outdir):
    for path in outdir.glob("stylegan2/*/*/metric-fd_tiny.jsonl"):
        protocol = '"protocol": {"related_pretrained_D": true, "pretrained_D": "A (ImageNet)"}'
        path.write_text(path.read_text().replace('"metric":', f'{protocol}, "metric":'))
    write_report(read_plan(outdir), {})
    text = (outdir / "comparison.html").read_text()
    assert "stylegan2 *" in text
    assert "This score favors stylegan2, whose discriminator has a pretrained backbone akin" in text


def test_counts_of_objects_have_no_direction(outdir):
    for path in outdir.glob("*/*/*/metric-okd_tiny_car.jsonl"):
        path.write_text(
            path.read_text().replace('{"okd_tiny_car":', '{"okd_tiny_car_fake_per_image": 2, "okd_tiny_car":')
        )
    write_report(read_plan(outdir), {})
    captions = [text for _attrs, text in Page((outdir / "comparison.html").read_text()).all("caption")]
    assert "Objects per image" in captions
    assert "okd, lower is better; the bars of this table are drawn to one scale" in captions


def test_metrics_without_a_value_are_explained(outdir):
    protocol = '"protocol": {"reason": "too few <objects>"}'
    path = outdir / "stylegan2/seed0/00000-scenes/metric-okd_tiny_car.jsonl"
    path.write_text(
        f'{{"results": {{"okd_tiny_car": null}}, {protocol}, "snapshot_pkl": "network-snapshot-000003.pkl"}}\n'
    )
    write_report(read_plan(outdir), {})
    items = [text for _attrs, text in Page((outdir / "comparison.html").read_text()).all("li")]
    assert "stylegan2, seed 0: no value of okd_tiny_car after 3 kimg: too few <objects>" in items


def test_boxes_are_shown(outdir):
    (outdir / "stylegan2/seed1/boxes.png").write_bytes((outdir / "stylegan2/seed1/samples.png").read_bytes())
    write_report(read_plan(outdir), {})
    page = Page((outdir / "comparison.html").read_text())
    assert "Detected objects" in [text for _attrs, text in page.all("h2")]
    assert len(page.all("img")) == 4


def test_marks_of_pretrained_discriminators(outdir):
    plan_file = outdir / "comparison.json"
    plan_file.write_text(plan_file.read_text().replace("msconD+con-weight=0.1", "projected"))
    (outdir / "msconD+con-weight=0.1").rename(outdir / "projected")
    for path in outdir.glob("projected/*/job.json"):
        path.write_text(path.read_text().replace("msconD+con-weight=0.1", "projected"))
    write_report(read_plan(outdir), {})
    text = (outdir / "comparison.html").read_text()
    assert "projected *" in text
    assert "arXiv 2203.06026" in text
    assert r"| projected \* |" in (outdir / "comparison.md").read_text()


def test_a_score_of_the_last_snapshots_alone_has_one_column_and_no_curves(outdir):
    for path in outdir.glob("*/seed*/*/metric-fd_tiny.jsonl"):
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    write_report(read_plan(outdir), {})
    page = Page((outdir / "comparison.html").read_text())
    headings = [text for _attrs, text in page.all("th")]
    assert headings[:3] == ["method", "seeds", "at 3.008 kimg"]
    assert "best snapshot" not in headings
    assert not [text for _attrs, text in page.all("figcaption") if text.startswith("fd_tiny")]
    assert "fd\\_tiny, at equal images:" in (outdir / "comparison.md").read_text()


def test_early_snapshots_without_a_value_leave_a_run_complete(outdir):
    path = outdir / "stylegan2/seed0/00000-scenes/metric-okd_tiny_car.jsonl"
    first = path.read_text().splitlines()[-1]
    assert "000001" in first
    early = {**json.loads(first), "results": {"okd_tiny_car": None}, "protocol": {"reason": "too few"}}
    path.write_text(path.read_text().replace(first, json.dumps(early)))
    write_report(read_plan(outdir), {})
    assert "no value of" not in (outdir / "comparison.html").read_text()


@pytest.mark.parametrize("content", [b"", b"x", PNG[:40], PNG[:60], HUGE], ids=len)
def test_damaged_pictures_are_named(outdir, content):
    folder = outdir / "stylegan2/seed0"
    for path in (folder / "boxes.png", folder / "samples.png", *folder.glob("*/reals.png")):
        path.write_bytes(content)
    write_report(read_plan(outdir), {})
    captions = [text for _attrs, text in Page((outdir / "comparison.html").read_text()).all("figcaption")]
    for name in ("boxes.png", "samples.png"):
        (caption,) = [caption for caption in captions if f"({name} cannot be read: " in caption]
        assert caption.endswith("delete it, and repeat the command)")


def test_runs_of_several_lengths(outdir):
    path = outdir / "stylegan2/seed0/job.json"
    path.write_text(path.read_text().replace('"kimg": 3', '"kimg": 9'))
    write_report(read_plan(outdir), {})
    assert "Training sees 3 to 9 thousand images" in (outdir / "comparison.html").read_text()


def test_gaps_of_logits_are_shown_without_curves(outdir):
    for folder in outdir.glob("*/seed0/*/stats.jsonl"):  # curves are those of the first seeds
        folder.write_text(folder.read_text().replace("Loss/scores", "Loss/other"))
    write_report(read_plan(outdir), {})
    titles = [text for _attrs, text in Page((outdir / "comparison.html").read_text()).all("h2")]
    assert "Logits by scale" in titles
    assert "Mean logits of real images" in (outdir / "comparison.md").read_text()


def test_the_table_says_of_how_many_seeds_a_cell_is(outdir):
    for path in outdir.glob("stylegan2/seed1/*/stats.jsonl"):  # so slow that it has no score at equal time
        path.write_text(
            path.read_text().replace(
                '"Timing/sec_per_tick": {"num": 2, "mean": 10.0', '"Timing/sec_per_tick": {"num": 2, "mean": 1000.0'
            )
        )
    write_report(read_plan(outdir), {})
    (row,) = [
        line
        for line in (outdir / "comparison.md").read_text().splitlines()
        if line.startswith("| fd\\_tiny | stylegan2 ")
    ]
    assert row.count("(1 of 2 seeds)") == 1
