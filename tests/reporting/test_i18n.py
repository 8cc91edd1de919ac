"""Everything that the page says it says in every language, with the same numbers."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from importlib import resources
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from lep.reporting import formatting as rounding
from lep.reporting.i18n import in_language, language_name, many, say, speaking
from lep.reporting.page.render import render
from lep.reporting.run_data import gather

from .made_up import Write, calibrated, evaluated
from .page.test_render import ROWS

HOME = Path(str(resources.files("lep.reporting")))
METHODS = {".py": "python", ".jinja": "jinja2.ext:babel_extract"}


@pytest.fixture(scope="module")
def russian() -> Catalog:
    """The catalogue."""
    return read_po((HOME / "phrases" / "ru.po").open("rb"))


def said() -> set[str | tuple[str, ...]]:
    """Every phrase in the sources; with its plural, where it has one."""
    files = [*HOME.glob("*.py"), *(HOME / "templates").glob("*.jinja")]
    found = (extract_from_file(METHODS[file.suffix], file, keywords={"say": None, "many": (1, 2)}) for file in files)
    return {phrase for messages in found for _, phrase, _, _ in messages}


def test_every_phrase_is_translated_and_no_translation_is_left_over(russian: Catalog) -> None:
    translated = {message.id for message in russian if message.id}
    assert len(translated) > 150
    assert said() == translated
    assert [message.id for message in russian if not all(_forms(message.string))] == []


def test_a_translation_names_the_same_values(russian: Catalog) -> None:
    for message in russian:
        for text in _forms(message.string) if message.id else ():
            assert _names(text) == _names(_forms(message.id)[-1]), text


def test_both_pages_have_the_same_numbers(run: Path, write: Write) -> None:
    inputs = {"model": "run/propagate/conversion", "teacher": "run/tune"}
    write("run/calibrate", room="calibrate", numbers=calibrated(), inputs=inputs)
    english, russian = (
        _text(render(gather(run), title="A run", paper=ROWS, language=language)) for language in ("en", "ru")
    )
    assert "What was done" in english
    assert "Что сделано" in russian
    assert _numbers(russian, group="\u00a0", point=",") == _numbers(english, group=",", point=".")


def test_only_names_are_left_in_english(run: Path) -> None:
    """Of rooms, models, skills, settings and tasks; and titles of the paper."""
    page = _text(render(gather(run), title="Прогон", paper=ROWS, language="ru"))
    ours = re.sub("Facilitating.*Propagation|LLaMa.*Conversion", "", page)
    words = "against better worse noise tokens bits rows interval Russian items score the of is and with".split()
    assert [word for word in words if re.search(rf"\b{word}\b", ours)] == []


@pytest.mark.parametrize(
    ("n", "form"), [(1, "1 токен"), (3, "3 токена"), (11, "11 токенов"), (1021, "1\u00a0021 токен")]
)
def test_russian_has_three_plurals(n: int, form: str) -> None:
    with speaking("ru"):
        assert many("{n} token", "{n} tokens", n) == form


def test_a_language_is_spoken_until_the_block_ends() -> None:
    with pytest.raises(KeyError), speaking("ru"):
        assert rounding.decimal(1234.5) == "1\u00a0234,50"
        assert (language_name("kk"), in_language("kk"), in_language("hi")) == (
            "казахский",
            "на казахском",
            "на языке хинди",
        )
        raise KeyError
    assert rounding.decimal(1234.5) == "1,234.50"
    assert (language_name("kk"), in_language("kk"), language_name("xx")) == ("Kazakh", "in Kazakh", "xx")


def test_values_are_values_whatever_is_in_them() -> None:
    assert say("{n} s", n="{x}") == "{x} s"


def test_an_old_evaluation_speaks_both(write: Write) -> None:
    old = {name: value for name, value in evaluated().items() if name in ("models", "answers", "continuations")}
    page = render(gather(write("old", room="evaluate", numbers=old)), title="Прогон", language="ru")
    assert "Выиграно" in page


def _text(page: str) -> str:
    """What a reader sees."""
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", page, flags=re.S)))


def _forms(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def _names(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _numbers(text: str, *, group: str, point: str) -> Counter[str]:
    whole = re.sub(rf"(?<=\d){group}(?=\d\d\d(?!\d))", "", text)
    return Counter(re.findall(r"\d+(?:\.\d+)?", re.sub(rf"(?<=\d){re.escape(point)}(?=\d)", ".", whole)))
