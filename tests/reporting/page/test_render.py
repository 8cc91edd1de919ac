"""The page: complete, self-contained, accessible, and safe against hostile text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise, product
from pathlib import Path

import matplotlib
import pytest

from lep.reporting.page.render import render_page
from lep.reporting.run_data import load_run_data
from lep.reporting.tables.main import build_main_table
from lep.results.stages import parse_evaluation_result

from ..made_up import HOSTILE, NAMES, Write, benchmark, evaluated

SECTIONS = (
    "stages vocabulary training propagation models benchmark paper "
    "efficiency side-effects answers continuations details"
).split()
CHARTS = 2 + 3 + 2 + 6 + 6 + 2 + 2
ROWS = {"conversion": "LLaMa-3-8B-Instruct/Extended/Conversion"}


VOID = {"meta", "link", "br", "wbr"}


class Reader(HTMLParser):
    """Collects tags, attributes, section ids and text of a page; checks that every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Hook of the parser."""
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Hook of the parser for tags that close themselves."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Hook of the parser."""
        assert self.open.pop() == tag, f"</{tag}> on line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        """Hook of the parser."""
        self.text += data

    @property
    def sections(self) -> list[str]:
        """Ids of the sections."""
        return [value for name, value in self.attributes if name == "id" and value in SECTIONS]


@pytest.fixture
def page(run: Path) -> str:
    """The page of the whole made-up run."""
    return render_page(load_run_data(run), title="A run", paper_rows=ROWS)


def test_the_page_shows_the_main_table_and_every_stage(run: Path, page: str) -> None:
    text = Reader(page).text
    for row in build_main_table(parse_evaluation_result(evaluated())).rows:
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
    for stage in load_run_data(run).stages:
        assert stage.manifest.fingerprint in text
    assert "torch 2.13.0" in text


def test_all_sections_and_charts_are_there(page: str) -> None:
    reader = Reader(page)
    assert reader.sections == SECTIONS
    assert reader.tags.count("svg") == CHARTS


def test_hostile_text_is_escaped(write: Write) -> None:
    models = {f"{HOSTILE}{name}$x$": model for name, model in evaluated()["models"].items()}
    output = {"text": HOSTILE, "tokens": 1}
    answer = {"skill": HOSTILE, "prompt": HOSTILE, "expected": HOSTILE, "answers": {HOSTILE: output}}
    result = {
        "models": models,
        "answers": [answer],
        "continuations": [{"prompt": HOSTILE, "outputs": {HOSTILE: output}}],
    }
    settings = {HOSTILE: HOSTILE}
    page = render_page(load_run_data(write("bad", stage="evaluate", result=result, settings=settings)), title=HOSTILE)
    reader = Reader(page)
    assert not {"script", "img"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert HOSTILE in reader.text


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
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
    before = dict(matplotlib.rcParams)
    assert render_page(load_run_data(run), title="A run", paper_rows=ROWS) == page
    assert dict(matplotlib.rcParams) == before


def test_charts_take_their_colors_from_the_page(page: str) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--accent)" in charts
    assert set(re.findall(r"#[0-9a-f]{6}\b", charts)) <= {"#000000", "#ffffff"}


@pytest.mark.parametrize(
    ("stage", "section"),
    [("retokenize", "vocabulary"), ("pretrain", None), ("tune", None), ("collect", None), ("propagate", "propagation")],
)
def test_a_missing_stage_leaves_only_its_section_out(run: Path, stage: str, section: str | None) -> None:
    shutil.rmtree(run.parent / stage)
    sections = Reader(render_page(load_run_data(run), title="A run")).sections
    assert set(sections) >= {"stages", "models", "answers", "continuations", "details"}
    assert section not in sections


def test_an_evaluation_alone_is_a_page(write: Write) -> None:
    models = {
        "only": {"characters_per_token": {"xx": 2.5}, "bits_per_byte": {"xx": 1.25}, "skills": None, "speed": None}
    }
    reader = Reader(
        render_page(load_run_data(write("alone", stage="evaluate", result={"models": models})), title="Alone")
    )
    assert reader.sections == ["stages", "models", "details"]
    assert "1.250" in reader.text
    assert "svg" not in reader.tags


def test_an_evaluation_of_the_benchmark_alone_has_no_empty_tables(write: Write) -> None:
    models = {name: {"characters_per_token": {}, "bits_per_byte": {}} for name in NAMES}
    result = {"models": models, "benchmark": benchmark(missing="use")}
    reader = Reader(render_page(load_run_data(write("alone", stage="evaluate", result=result)), title="Alone"))
    assert reader.sections == ["stages", "benchmark", "details"]
    assert "conversion compared with instruct." in reader.text


def test_empty_curves_leave_their_charts_out(run: Path) -> None:
    path = run.parent / "pretrain" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["result"] |= {"curve": [], "losses": []}
    path.write_text(json.dumps(manifest))
    reader = Reader(render_page(load_run_data(run), title="A run"))
    assert "curve0-figure_1" not in dict(reader.attributes).values()
    assert reader.tags.count("svg") == CHARTS - 6


@pytest.mark.parametrize("language", ["en", "ru"])
def test_headings_are_in_order_and_tables_and_charts_are_labeled(run: Path, language: str) -> None:
    page = render_page(load_run_data(run), title="A run", paper_rows=ROWS, language=language)
    assert f'<html lang="{language}">' in page
    levels = [int(tag[1]) for tag in Reader(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert re.findall(r"<th(?![^>]*scope=)[ >]", page) == []
    labels = re.findall(r'<svg[^>]*role="img" aria-label="([^"]*)"', page)
    assert len(labels) == CHARTS
    assert all(re.search(r": .*\d", label) for label in labels)


def test_the_papers_scores_are_in_the_charts_where_they_compare(page: str) -> None:
    labels = dict(label.split(": ", 1) for label in re.findall(r'role="img" aria-label="(Daru[^"]*)"', page))
    assert [name for name, text in labels.items() if "the paper, conversion 0." in text] == ["DaruMMLU", "DaruMERA"]


def test_the_summary_groups_measures_by_outcome(run: Path) -> None:
    text = " ".join(Reader(render_page(load_run_data(run), title="A run")).text.replace("\u00a0", " ").split())
    assert (
        "conversion compared with instruct. Better: 2.00 × the characters per token in Russian; "
        "1.97 × the generation speed." in text
    )
    assert "Worse: 3.9 % more bits per byte in Russian; 2.5 % more bits per byte in English." in text
    assert "No clear difference: 70.4 % of skill items correct against 71.4 %; Darumeru 0.550 against 0.460." in text


def test_bars_are_logarithms_and_a_full_bar_is_at_least_a_factor_of_two(write: Write) -> None:
    evaluated_models = evaluated()["models"]
    models = {name: evaluated_models[name] for name in ("instruct", "conversion")}
    page = render_page(load_run_data(write("two", stage="evaluate", result={"models": models})), title="Two")
    assert re.findall(r'<i style="(left|right):50%;width:([\d.]+)%', page)[0] == ("left", "50.0")
    models["conversion"] |= {"characters_per_token": {"ru": 1.31 / 4}, "speed": None}
    page = render_page(load_run_data(write("worse", stage="evaluate", result={"models": models})), title="Two")
    bars = re.findall(r'<i style="(left|right):50%;width:([\d.]+)%', page)
    assert bars[:2] == [("right", "50.0"), ("right", "1.4")]


def test_text_colors_have_enough_contrast_in_light_and_dark_mode() -> None:
    css = (resources.files("lep.reporting") / "templates" / "page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", css[at:])[:14]) for at in (0, css.index("dark)")))
    for colors in (light, dark):
        papers = [colors[name] for name in ("paper", "raised", "wash")]
        texts = [colors[name] for name in ("ink", "muted", "accent", "better", "worse")]
        pairs = [*product(texts, papers), *((colors["ink"], colors[f"t{i}"]) for i in range(5))]
        assert min(_contrast(*pair) for pair in pairs) >= 4.5


def _contrast(first: str, second: str) -> float:
    """Return the contrast of two colors, by WCAG 2.2."""
    dark, light = sorted(map(_luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
