"""The report as a browser shows it: Chromium without a window, when one is installed."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import WIDTHS, Browser, browser, found
from PIL import Image

from vlmrecipes.records import report

pytestmark = pytest.mark.skipif(found() is None, reason="no Chromium")

SECTIONS = ("comparison", "evaluation", "examples", "training", "data", "lineage", "reproduce", "settings")
PLAN = {"plan": "abc", "fingerprint": "sha256:abc", "tokens": {"p50": 7, "p95": 8, "max": 9}}


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(finished: Callable[..., Path], picture: tuple[str, bytes], tmp_path: Path) -> Path:
    folder = finished(plan=PLAN, model={"id": "builtin:reader"}, command=["vlmrecipes", "run", "lines.toml"])
    target = tmp_path / "report.html"
    report.write_report([folder], target, lambda _: dict([picture]))
    assert target.stat().st_size < report.MOST_BYTES
    return target


def boxes(tab: Browser, selector: str) -> list[dict[str, float]]:
    rectangles = f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.getBoundingClientRect().toJSON())"
    return list(tab.value(rectangles))


def brightness(png: bytes) -> float:
    """Return the mean of all pixels, 0 black to 255 white."""
    image = Image.open(io.BytesIO(png)).convert("L")
    return sum(value * count for value, count in enumerate(image.histogram())) / (image.width * image.height)


def asked(tab: Browser) -> list[str]:
    """Return the addresses that the page made the browser ask for."""
    return [
        event["params"]["request"]["url"] for event in tab.events if event.get("method") == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("size", WIDTHS.values(), ids=WIDTHS)
def test_it_fits_its_window_offline_without_a_complaint(tab: Browser, page: Path, size: tuple[int, int]) -> None:
    tab.show(page, size)
    assert tab.value("document.documentElement.scrollWidth") <= size[0]
    outside = [
        box for box in boxes(tab, "h1, h2, h3, p, dl, pre, .example, .curve, .spans, .shares") if box["right"] > size[0]
    ]
    assert outside == []
    assert min(box["width"] for box in boxes(tab, "main svg")) > 0
    assert [url for url in asked(tab) if not url.startswith(("file:", "data:"))] == []
    complaints = [event for event in tab.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert complaints == []
    leaves = "[...document.querySelectorAll('body *')].filter(e => e.children.length == 0 && e.textContent.trim())"
    assert tab.value(f"Math.min(...{leaves}.map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 10


def test_the_summary_stands_on_one_screen(tab: Browser, page: Path) -> None:
    tab.show(page, WIDTHS["desktop"])
    last = max(
        box["bottom"]
        for box in boxes(tab, ".run > header, .run > .headlines:has(+ .brief), .run > dl, .run > .brief:not(section)")
    )
    assert 200 < last < WIDTHS["desktop"][1]
    assert boxes(tab, "#run-1-comparison")[0]["top"] >= last


def test_dark_is_dark_and_light_is_light_with_contrast(tab: Browser, page: Path) -> None:
    shades = {}
    for dark in (False, True):
        tab.show(page, WIDTHS["desktop"], dark=dark)
        shades[dark] = brightness(tab.picture())
        colours = "(e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor])"
        for selector in (".note", "dt", "a", ".verdict strong", "pre"):
            ink, ground = (luminance(text) for text in tab.value(f"{colours}(document.querySelector('{selector}'))"))
            light, low = max(ink, ground), min(ink, ground)
            assert (light + 0.05) / (low + 0.05) >= 4.5, (selector, dark)
    assert shades[False] > 200
    assert shades[True] < 80


def luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_section_is_reached_by_keyboard(tab: Browser, page: Path) -> None:
    tab.show(page, WIDTHS["desktop"])
    for name in SECTIONS:
        tab.press("Tab")
        assert tab.value("document.activeElement.getAttribute('href')") == f"#run-1-{name}"
        assert tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    tab.press("Enter")
    assert abs(boxes(tab, "#run-1-settings")[0]["top"]) < WIDTHS["desktop"][1]
    tab.show(page, WIDTHS["desktop"])
    everything = [tab.press("Tab") or tab.value("document.activeElement.outerHTML.slice(0, 200)") for _ in range(60)]
    for part in (
        "<summary",
        'aria-label="Metrics"',
        'aria-label="Lineage graph"',
        "snapshot lines@3",
        '<pre class="command"',
    ):
        assert any(part in element for element in everything), part


def test_the_graph_leads_from_the_data_to_the_metrics(tab: Browser, page: Path) -> None:
    tab.show(page, WIDTHS["desktop"])
    order = ["snapshot", "plan", "run", "weights", "predictions", "metric"]
    places = [boxes(tab, f".network .box.{kind} rect")[0] for kind in order]
    assert [place["x"] for place in places] == sorted({place["x"] for place in places})
    widths = "[...document.querySelectorAll('.network .box text')].map(text => text.getBBox().width)"
    assert 0 < max(tab.value(widths)) < 118


def test_it_prints_whole_and_in_black_on_white(tab: Browser, page: Path) -> None:
    tab.show(page, (718, 1000), dark=True, media="print")
    assert brightness(tab.picture()) > 200
    assert tab.value("document.documentElement.scrollWidth") <= 718
    assert tab.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    closed = (
        "[...document.querySelectorAll('.lines:not([open]) dl')].filter(e => e.getBoundingClientRect().height == 0)"
    )
    assert tab.value(f"{closed}.length") == 0
    assert tab.printed().startswith(b"%PDF")
