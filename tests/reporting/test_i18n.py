"""Every phrase of the page is translated, and the page has the same numbers in every language."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from importlib import resources
from pathlib import Path
from string import Formatter

import pytest
from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from lep.reporting import formatting
from lep.reporting.i18n import format_in_language, gettext, language_name, ngettext, use_locale
from lep.reporting.page.render import render_page
from lep.reporting.run_data import load_run_data

from .made_up import Write, calibrated, evaluated
from .page.test_render import ROWS

HOME = Path(str(resources.files("lep.reporting")))
EXTRACTORS = {".py": "python", ".jinja": "jinja2.ext:babel_extract"}
KEYWORDS = {"gettext": None, "ngettext": (1, 2)}


@pytest.fixture(scope="module")
def russian() -> Catalog:
    """The Russian catalog."""
    return read_po((HOME / "phrases" / "ru.po").open("rb"))


def extract_phrases() -> set[str | tuple[str, ...]]:
    """Return every phrase in the sources; with its plural, where it has one."""
    files = [*HOME.rglob("*.py"), *(HOME / "templates").glob("*.jinja")]
    extracted = (extract_from_file(EXTRACTORS[file.suffix], file, keywords=KEYWORDS) for file in files)
    return {phrase for messages in extracted for _, phrase, _, _ in messages}


def language_phrases() -> set[str]:
    """Return `in English`, `in Russian` … for every language that CLDR knows."""
    return {f"in {name}" for name in Locale.parse("en").languages.values()}


def test_every_phrase_is_translated_and_no_translation_is_left_over(russian: Catalog) -> None:
    translated = {message.id for message in russian if message.id}
    assert len(translated) > 150
    assert extract_phrases() == translated - language_phrases()
    assert [message.id for message in russian if not all(_forms(message.string))] == []


def test_the_languages_that_text_is_collected_in_have_their_phrase(russian: Catalog) -> None:
    translated = language_phrases() & {message.id for message in russian}
    assert len(translated) > 30
    assert translated >= {"in Russian", "in English", "in Kazakh", "in Hindi"}


def test_a_translation_names_the_same_values(russian: Catalog) -> None:
    for message in russian:
        for text in _forms(message.string) if message.id else ():
            assert _names(text) == _names(_forms(message.id)[-1]), text


def test_both_pages_have_the_same_numbers(run: Path, write: Write) -> None:
    inputs = {"model": "run/propagate/conversion", "teacher": "run/tune"}
    write("run/calibrate", stage="calibrate", result=calibrated(), inputs=inputs)
    english, russian = (
        _text(render_page(load_run_data(run), title="A run", paper_rows=ROWS, language=language))
        for language in ("en", "ru")
    )
    assert "Comparison with the paper" in english
    assert "Сравнение со статьёй" in russian
    assert _numbers(russian, group="\u00a0", point=",") == _numbers(english, group=",", point=".")


def test_only_names_stay_in_english(run: Path) -> None:
    """Names of stages, models, skills, settings and tasks, and titles of the paper."""
    page = _text(render_page(load_run_data(run), title="Прогон", paper_rows=ROWS, language="ru"))
    text = re.sub("Facilitating.*Propagation|LLaMa.*Conversion", "", page)
    words = (
        "against compared better worse noise tokens bits rows interval Russian items score the of is and with".split()
    )
    assert [word for word in words if re.search(rf"\b{word}\b", text)] == []


@pytest.mark.parametrize(
    ("n", "form"), [(1, "1 токен"), (3, "3 токена"), (11, "11 токенов"), (1021, "1\u00a0021 токен")]
)
def test_russian_has_three_plurals(n: int, form: str) -> None:
    with use_locale("ru"):
        assert ngettext("{n} token", "{n} tokens", n) == form


def test_the_locale_is_set_until_the_block_ends() -> None:
    with pytest.raises(KeyError), use_locale("ru"):
        assert formatting.format_decimal(1234.5) == "1\u00a0234,50"
        assert (language_name("kk"), format_in_language("kk")) == ("казахский", "на казахском")
        assert (format_in_language("hi"), format_in_language("zu")) == ("на хинди", "на языке «зулу»")
        raise KeyError
    assert formatting.format_decimal(1234.5) == "1,234.50"
    assert (language_name("kk"), format_in_language("kk"), language_name("xx")) == ("Kazakh", "in Kazakh", "xx")


def test_values_are_values_whatever_is_in_them() -> None:
    assert gettext("{n} s", n="{x}") == "{x} s"


def test_an_evaluation_without_benchmark_has_a_russian_page(write: Write) -> None:
    texts_only = {name: value for name, value in evaluated().items() if name in ("models", "answers", "continuations")}
    page = render_page(load_run_data(write("old", stage="evaluate", result=texts_only)), title="Прогон", language="ru")
    assert "Лучше" in page


def _text(page: str) -> str:
    """Return the visible text."""
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", page, flags=re.S)))


def _forms(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def _names(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _numbers(text: str, *, group: str, point: str) -> Counter[str]:
    ungrouped = re.sub(rf"(?<=\d){group}(?=\d\d\d(?!\d))", "", text)
    return Counter(re.findall(r"\d+(?:\.\d+)?", re.sub(rf"(?<=\d){re.escape(point)}(?=\d)", ".", ungrouped)))
