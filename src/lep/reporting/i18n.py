"""The reader's language: phrases by gettext from `phrases/*.po`, names of languages and numerals by the CLDR.

Everything below speaks English unless it is called inside `speaking`; so do the terminal and the cards.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources
from typing import Any

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import get_decimal_symbol, get_group_symbol

_SPOKEN: ContextVar[str] = ContextVar("spoken", default="en")


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Say everything in a language, by its code, until the end of the block."""
    token = _SPOKEN.set(language)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def say(phrase: str, **values: Any) -> str:
    """A phrase, with values in the place of its `{names}`; in English where it is not translated."""
    return _catalogue(_SPOKEN.get()).gettext(phrase).format(**values)


def many(one: str, more: str, n: int, **values: Any) -> str:
    """The form of a phrase that goes with a number, which is `n` in it."""
    return _catalogue(_SPOKEN.get()).ngettext(one, more, n).format(n=numerals(f"{n:,}"), **values)


def numerals(text: str) -> str:
    """A number as Python formats it, with the separators of the language."""
    language = _SPOKEN.get()
    return text.translate({ord(","): get_group_symbol(language), ord("."): get_decimal_symbol(language)})


def language_name(code: str) -> str:
    """A language's name, or the code of what is none."""
    return Locale.parse(_SPOKEN.get()).languages.get(code, code)


def in_language(code: str) -> str:
    """A language's name after a preposition: `in Russian`, `на русском`."""
    name = language_name(code)
    if _SPOKEN.get() != "ru":
        return f"in {name}"
    return f"на {name.removesuffix('ий')}ом" if name.endswith("ий") else f"на языке {name}"


@cache
def _catalogue(language: str) -> NullTranslations:
    if language == "en":
        return NullTranslations()
    source = (resources.files("lep.reporting") / "phrases" / f"{language}.po").read_bytes()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source)))
    compiled.seek(0)
    return GNUTranslations(compiled)
