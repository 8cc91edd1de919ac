"""The page in a browser: no errors, no requests, and layouts for phones, dark mode and print."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from lep.reporting.page.render import render_page
from lep.reporting.run_data import load_run_data

from .browser import CHROMIUM, Tab, tab
from .made_up import NAMES
from .page.test_render import CHARTS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """One browser for all tests."""
    with tab(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(params=["en", "ru"])
def page(request: pytest.FixtureRequest, chromium: Tab, run: Path, tmp_path: Path) -> Tab:
    """The page of the made-up run, opened."""
    return _open(
        chromium, render_page(load_run_data(run), title="A run", paper_rows=ROWS, language=request.param), tmp_path
    )


def test_the_page_has_no_errors_and_makes_no_requests(page: Tab) -> None:
    assert page.value("document.querySelectorAll('svg').length") == CHARTS
    assert page.value("[...document.querySelectorAll('svg')].every(it => it.getBoundingClientRect().height > 50)")
    text = page.value("document.body.innerText")
    assert all(name in text for name in NAMES)
    assert _errors(page) == []
    addresses = [event["request"]["url"] for event in page.happened("Network.requestWillBeSent")]
    assert [address for address in addresses if not address.startswith("data:")] == [page.value("document.URL")]


def test_errors_are_detected(chromium: Tab, tmp_path: Path, run: Path) -> None:
    """Control: a script, which the policy of the page forbids."""
    page = render_page(load_run_data(run), title="A run").replace("</main>", "<script>1</script></main>")
    assert "script" in str(_errors(_open(chromium, page, tmp_path)))


@pytest.mark.parametrize("width", [360, 390, 768, 1200])
def test_nothing_is_wider_than_the_screen(page: Tab, width: int) -> None:
    page.resize(width)
    page.value("document.querySelectorAll('details').forEach(it => it.open = true)")
    assert page.value("document.documentElement.scrollWidth") == width
    outside = (
        "[...document.querySelectorAll('main *, header *')]"
        f".filter(it => !it.closest('.scroll, thead') && it.getBoundingClientRect().right > {width + 1})"
        ".map(it => it.outerHTML.slice(0, 80))"
    )
    assert page.value(outside) == []


def test_charts_are_light_on_dark_in_dark_mode(page: Tab) -> None:
    ink = "getComputedStyle(document.querySelector('#models svg text')).fill"
    page.media(scheme="light")
    light = (page.value("getComputedStyle(document.body).backgroundColor"), page.value(ink))
    page.media(scheme="dark")
    dark = (page.value("getComputedStyle(document.body).backgroundColor"), page.value(ink))
    page.media()
    assert _brightness(light[0]) > 600 > _brightness(light[1])
    assert _brightness(dark[0]) < 150 < _brightness(dark[1])


def test_folded_parts_are_printed(page: Tab) -> None:
    """Parts that are folded on the screen unfold in print."""
    pdf = b64decode(page.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    page.media(kind="print")
    folded = "[...document.querySelectorAll('details:not([open]) > :not(summary)')].map(it => it.checkVisibility())"
    hidden = page.value(f"{folded}.filter(it => !it).length")
    page.media()
    assert hidden == 0


def test_folded_and_wide_parts_can_be_focused(page: Tab) -> None:
    assert page.value("[...document.querySelectorAll('summary, .scroll, nav a')].every(it => it.tabIndex === 0)")


def _open(chromium: Tab, page: str, folder: Path) -> Tab:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    chromium.resize(1200)
    chromium.open(file.as_uri())
    return chromium


def _errors(page: Tab) -> list[object]:
    return page.happened("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")


def _brightness(color: str) -> int:
    """Return the sum of red, green and blue."""
    return sum(int(part) for part in color.strip("rgb()").split(","))
