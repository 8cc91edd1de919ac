"""The page in a browser: it stands, it is silent, it asks for nothing, and it fits a phone, the night and paper."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from lep.reporting.page.render import render
from lep.reporting.run_data import gather

from .browser import CHROMIUM, Tab, tab
from .made_up import NAMES
from .page.test_render import CHARTS, ROWS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """One for all tests."""
    with tab(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(params=["en", "ru"])
def shown(request: pytest.FixtureRequest, chromium: Tab, run: Path, tmp_path: Path) -> Tab:
    """The page of the whole made-up run, open."""
    return _open(chromium, render(gather(run), title="A run", paper=ROWS, language=request.param), tmp_path)


def test_the_page_stands_and_is_silent(shown: Tab) -> None:
    assert shown.value("document.querySelectorAll('svg').length") == CHARTS
    assert shown.value("[...document.querySelectorAll('svg')].every(it => it.getBoundingClientRect().height > 50)")
    text = shown.value("document.body.innerText")
    assert all(name in text for name in NAMES)
    assert _complaints(shown) == []
    addresses = [event["request"]["url"] for event in shown.happened("Network.requestWillBeSent")]
    assert [address for address in addresses if not address.startswith("data:")] == [shown.value("document.URL")]


def test_complaints_would_be_heard(chromium: Tab, tmp_path: Path, run: Path) -> None:
    """The control: what the page forbids itself."""
    page = render(gather(run), title="A run").replace("</main>", "<script>1</script></main>")
    assert "script" in str(_complaints(_open(chromium, page, tmp_path)))


@pytest.mark.parametrize("width", [360, 390, 768, 1200])
def test_nothing_is_wider_than_the_screen(shown: Tab, width: int) -> None:
    shown.resize(width)
    shown.value("document.querySelectorAll('details').forEach(it => it.open = true)")
    assert shown.value("document.documentElement.scrollWidth") == width
    outside = (
        "[...document.querySelectorAll('main *, header *')]"
        f".filter(it => !it.closest('.scroll, thead') && it.getBoundingClientRect().right > {width + 1})"
        ".map(it => it.outerHTML.slice(0, 80))"
    )
    assert shown.value(outside) == []


def test_by_night_charts_are_light_on_dark(shown: Tab) -> None:
    ink = "getComputedStyle(document.querySelector('#models svg text')).fill"
    shown.media(scheme="light")
    day = (shown.value("getComputedStyle(document.body).backgroundColor"), shown.value(ink))
    shown.media(scheme="dark")
    night = (shown.value("getComputedStyle(document.body).backgroundColor"), shown.value(ink))
    shown.media()
    assert _bright(day[0]) > 600 > _bright(day[1])
    assert _bright(night[0]) < 150 < _bright(night[1])


def test_all_is_printed(shown: Tab) -> None:
    """What is folded on the screen unfolds on paper."""
    pdf = b64decode(shown.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    shown.media(kind="print")
    folded = "[...document.querySelectorAll('details:not([open]) > :not(summary)')].map(it => it.checkVisibility())"
    hidden = shown.value(f"{folded}.filter(it => !it).length")
    shown.media()
    assert hidden == 0


def test_keys_unfold_and_move_what_is_wide(shown: Tab) -> None:
    assert shown.value("[...document.querySelectorAll('summary, .scroll, nav a')].every(it => it.tabIndex === 0)")


def _open(chromium: Tab, page: str, folder: Path) -> Tab:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    chromium.resize(1200)
    chromium.open(file.as_uri())
    return chromium


def _complaints(shown: Tab) -> list[object]:
    return shown.happened("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")


def _bright(colour: str) -> int:
    """Sum of red, green and blue."""
    return sum(int(part) for part in colour.strip("rgb()").split(","))
