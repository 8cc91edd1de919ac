"""The page: everything is on it, nothing comes from elsewhere, hostile text stays text, and a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from lep.reporting.facts import gather
from lep.reporting.page import render, visible
from lep.reporting.paper import beside_paper
from lep.reporting.table import main_table

from .made_up import HOSTILE, NAMES, Write, benchmark, evaluated

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECTIONS = (
    "walk vocabulary learning propagation models benchmark paper efficiency side-effects answers continuations record"
).split()
CHARTS = 2 + 3 + 2 + 6 + 6 + 2 + 2
ROWS = {"conversion": "LLaMa-3-8B-Instruct/Extended/Conversion"}


class Reader(HTMLParser):
    """Collects the tags, their attributes, the section ids and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        self.text += data

    @property
    def sections(self) -> list[str]:
        """Ids of the page's own sections."""
        return [value for name, value in self.attributes if name == "id" and value in SECTIONS]


@pytest.fixture
def page(run: Path) -> str:
    """The page of the whole made-up run."""
    facts = gather(run)
    return render(facts, title="A run", beside=beside_paper(facts.evaluation.benchmark, ROWS))


def test_everything_is_on_the_page(run: Path, page: str) -> None:
    text = Reader(page).text
    for row in main_table(evaluated()).rows:
        for part in (row.model, *(cell.value for cell in row.cells), *(cell.note for cell in row.cells)):
            assert part in text
    for part in (
        "312 million",
        "52,152",
        "2.4",
        "2.620 → 1.726",
        "1,500",
        "0.413",
        "197 / 280",
        "Весной 1861",
        "+0.150 better",
        "DaruMERA, 120 items",
        "Table 3: propagated models, 0-shot",
        "ROUGE is recall",
        "21 min",
    ):
        assert part in text, part
    for room in gather(run).rooms:
        assert room.manifest.fingerprint in text
    assert "torch 2.13.0" in text


def test_all_sections_and_charts_are_there(page: str) -> None:
    reader = Reader(page)
    assert reader.sections == SECTIONS
    assert reader.tags.count("svg") == CHARTS


def test_hostile_text_stays_text(write: Write) -> None:
    models = {f"{HOSTILE}{name}$x$": model for name, model in evaluated()["models"].items()}
    output = {"text": HOSTILE, "tokens": 1}
    answer = {"skill": HOSTILE, "prompt": HOSTILE, "expected": HOSTILE, "answers": {HOSTILE: output}}
    numbers = {
        "models": models,
        "answers": [answer],
        "continuations": [{"prompt": HOSTILE, "texts": {HOSTILE: output}}],
    }
    settings = {HOSTILE: HOSTILE}
    page = render(gather(write("bad", room="evaluate", numbers=numbers, settings=settings)), title=HOSTILE)
    reader = Reader(page)
    assert not {"script", "img"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert HOSTILE in reader.text


def test_nothing_comes_from_elsewhere(page: str) -> None:
    reader = Reader(page)
    targets = [value for name, value in reader.attributes if name.split(":")[-1] in ("src", "href", "srcset", "data")]
    targets += re.findall(r"url\(([^)]*)\)", page) + re.findall(r"@import\s+(\S+)", page)
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert not {"script", "iframe", "object", "embed", "base"} & set(reader.tags)
    assert "default-src 'none'" in page


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    ids = [value for name, value in Reader(page).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"""url\(#([^)]*)\)|href="#([^"]*)""", page)) <= {(i, "") for i in ids} | {
        ("", i) for i in ids
    }


def test_the_page_is_the_same_every_time_and_leaves_matplotlib_alone(run: Path, page: str) -> None:
    before, facts = dict(matplotlib.rcParams), gather(run)
    assert render(facts, title="A run", beside=beside_paper(facts.evaluation.benchmark, ROWS)) == page
    assert dict(matplotlib.rcParams) == before


def test_charts_take_their_colours_from_the_page(page: str) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--accent)" in charts
    assert set(re.findall(r"#[0-9a-f]{6}\b", charts)) <= {"#000000", "#ffffff"}


@pytest.mark.parametrize(
    ("room", "section"),
    [("retokenize", "vocabulary"), ("pretrain", None), ("tune", None), ("collect", None), ("propagate", "propagation")],
)
def test_a_missing_room_leaves_only_its_section_out(run: Path, room: str, section: str | None) -> None:
    shutil.rmtree(run.parent / room)
    found = Reader(render(gather(run), title="A run")).sections
    assert set(found) >= {"walk", "models", "answers", "continuations", "record"}
    assert section not in found


def test_an_evaluation_alone_is_a_page(write: Write) -> None:
    models = {"only": {"symbols_per_token": {"xx": 2.5}, "bits_per_byte": {"xx": 1.25}, "skills": None, "speed": None}}
    reader = Reader(render(gather(write("alone", room="evaluate", numbers={"models": models})), title="Alone"))
    assert reader.sections == ["walk", "models", "record"]
    assert "1.250" in reader.text
    assert "svg" not in reader.tags


def test_an_evaluation_of_the_benchmark_alone_has_no_empty_tables(write: Write) -> None:
    models = {name: {"symbols_per_token": {}, "bits_per_byte": {}} for name in NAMES}
    numbers = {"models": models, "benchmark": benchmark(missing="use")}
    reader = Reader(render(gather(write("alone", room="evaluate", numbers=numbers)), title="Alone"))
    assert reader.sections == ["walk", "benchmark", "record"]
    assert "conversion against instruct." in reader.text


def test_empty_curves_leave_their_charts_out(run: Path) -> None:
    path = run.parent / "pretrain" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["numbers"] |= {"curve": [], "losses": []}
    path.write_text(json.dumps(manifest))
    reader = Reader(render(gather(run), title="A run"))
    assert "curve0-figure_1" not in dict(reader.attributes).values()
    assert reader.tags.count("svg") == CHARTS - 6


def test_white_space_in_tokens_is_visible() -> None:
    assert [visible(token) for token in (" на", "\n", "", "ок")] == ["·на", "↵", "∅", "ок"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_shows_the_page(tmp_path: Path, page: str) -> None:
    dom, complaints = _browse(tmp_path, page)
    assert complaints == []
    reader = Reader(dom)
    assert reader.tags.count("svg") == CHARTS
    assert all(name in reader.text for name in NAMES)
    # The control: the same page with something forbidden in it makes the browser complain.
    assert _browse(tmp_path, page.replace("</main>", "<script>1</script></main>"))[1]


def _browse(tmp_path: Path, page: str) -> tuple[str, list[str]]:
    """The document after Chromium has laid it out, and what it wrote on its console."""
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=2000"]
    logs = ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}"]
    command = [str(CHROMIUM), *flags, *logs, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
