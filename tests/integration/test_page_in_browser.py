"""The page of a run in a real browser: on a phone and on a desk, in both themes, with the keyboard."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.browser import CHROMIUM, Browser
from tests.fake_run import write_run
from training.run.page.run_page import write_comparison, write_run_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

MEASURE = """JSON.stringify({
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    charts: [...document.querySelectorAll("figure.chart")].map(each => each.querySelectorAll("canvas").length),
    unnamed: [...document.querySelectorAll("img:not([alt]), input:not([id])")].length,
    back: getComputedStyle(document.body).backgroundColor,
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    bad = {"Loss__D__loss": 200.0, "Progress__augment": 1.0}
    runs = [write_run(folder / "00000-<b>cats"), write_run(folder / "00001-dogs", num_ticks=11, **bad)]
    for run in runs:
        write_run_page(run)
    write_comparison(runs, folder / "comparison.html")
    return folder


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width_px", [360, 1200])
@pytest.mark.parametrize("page", ["00001-dogs/report.html", "comparison.html"])
def test_it_fits_and_says_nothing_in_the_console(browser, folder, tmp_path, page, width_px, is_dark):
    browser.problems.clear()
    browser.open(folder / page, width_px, is_dark=is_dark)
    found = json.loads(browser.evaluate(MEASURE))
    assert browser.problems == []
    assert found["overflow"] <= 0
    assert len(found["charts"]) > 8
    assert set(found["charts"]) == {1}
    assert found["unnamed"] == 0
    assert found["back"] == ("rgb(21, 23, 26)" if is_dark else "rgb(255, 255, 255)")
    browser.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as shot:
        assert shot.width == width_px
        assert len(np.unique(np.asarray(shot.convert("L")))) > 50


def test_charts_are_drawn_anew_when_the_window_changes(browser, folder):
    browser.open(folder / "comparison.html", 1200)
    width = "document.querySelector('.uplot').clientWidth"
    before = browser.evaluate(width)
    browser.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    browser.evaluate("new Promise(resolve => setTimeout(resolve, 500))")
    assert browser.evaluate(width) < 400 < before
    assert browser.problems == []


COUNT_PLOTS = """(() => {
    const Plot = uPlot;
    window.made = window.destroyed = 0;
    uPlot = function (...args) {
        const plot = new Plot(...args);
        const destroy = plot.destroy;
        window.made++;
        plot.destroy = () => { window.destroyed++; destroy(); };
        return plot;
    };
    Object.assign(uPlot, Plot);
})()"""


def test_no_old_charts_stay(browser, folder):
    browser.open(folder / "comparison.html", 1200)
    browser.evaluate(COUNT_PLOTS)
    for width_px in (800, 400):
        browser.send(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=800, deviceScaleFactor=1, mobile=False
        )
        browser.evaluate("new Promise(resolve => setTimeout(resolve, 500))")
    num_charts = browser.evaluate("document.querySelectorAll('.uplot').length")
    assert num_charts > 8
    assert browser.evaluate("made") >= 2 * num_charts
    assert browser.evaluate("made - destroyed") == num_charts
    assert browser.problems == []


def test_the_legend_shows_the_dashes(browser, folder):
    browser.open(folder / "comparison.html", 1200)
    losses = "[...document.querySelectorAll('figure.chart')].find(e => e.textContent.startsWith('Losses'))"
    marks = f"[...{losses}.querySelectorAll('.u-series:not(:first-child) .u-marker')]"
    looks = browser.evaluate(f"JSON.stringify({marks}.map(e => getComputedStyle(e).background))")
    generator, discriminator, *_ = found = json.loads(looks)
    assert len(set(found)) == 4
    assert ["gradient" in mark for mark in found] == [False, True, False, True]
    assert generator.partition(")")[0] in discriminator  # of one color


@pytest.mark.parametrize("width_px", [360, 1200])
def test_markers_stay_beside_the_labels_of_the_legend(browser, tmp_path, width_px):
    """As inline blocks, which uPlot makes of them, long names of runs stand below their markers."""
    runs = [write_run(tmp_path / f"0000{i}-scenes32-msconD-small-gamma0.5-batch16-long", num_ticks=2) for i in (0, 1)]
    write_comparison(runs, tmp_path / "comparison.html")
    browser.open(tmp_path / "comparison.html", width_px)
    places = (
        "JSON.stringify([...document.querySelectorAll('.u-series:not(.edge)')].map(each => ["
        "...each.querySelectorAll('.u-marker, .u-label')].map(e => e.getBoundingClientRect())))"
    )
    found = json.loads(browser.evaluate(places))
    assert len(found) > 20
    for marker, label in found:
        assert marker["right"] <= label["left"]
        assert label["top"] < marker["top"] < label["bottom"]
        assert label["right"] <= width_px


def test_the_slider_follows_the_keyboard(browser, folder):
    browser.open(folder / "00000-<b>cats" / "report.html", 1200)
    state = (
        "JSON.stringify([document.querySelector('.moment').textContent, document.querySelector('.samples img').alt,"
        " document.querySelector('.samples input').getAttribute('aria-valuetext'),"
        " document.querySelector('.samples img').src.length > 1000])"
    )
    moment = "after 100 kimg"
    assert json.loads(browser.evaluate(state)) == [moment, f"Grid of generated images {moment}", moment, True]
    source = browser.evaluate("document.querySelector('.samples img').src")
    browser.evaluate("document.querySelector('.samples input').focus()")
    for key, moment in (("ArrowLeft", "after 75 kimg"), ("Home", "before training"), ("ArrowRight", "after 25 kimg")):
        browser.press(key)
        assert json.loads(browser.evaluate(state))[:3] == [moment, f"Grid of generated images {moment}", moment]
    assert browser.evaluate("document.querySelector('.samples img').src") != source


def test_names_are_shown_and_not_obeyed(browser, folder):
    browser.open(folder / "00000-<b>cats" / "report.html", 1200)
    assert browser.evaluate("document.querySelector('h1').textContent") == "00000-<b>cats"
    assert browser.evaluate("document.querySelectorAll('b').length") == 0
