"""The language of the page: phrases by gettext from `phrases/*.po`, names of languages by CLDR (babel).

The locale is English unless `use_locale` sets another one. The terminal and model cards are always in English.
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
from babel.numbers import format_decimal

_LOCALE: ContextVar[str] = ContextVar("locale", default="en")


@contextmanager
def use_locale(language: str) -> Iterator[None]:
    """Set the locale for all functions of `lep.reporting` until the end of the block."""
    token = _LOCALE.set(language)
    try:
        yield
    finally:
        _LOCALE.reset(token)


def current_locale() -> str:
    """Return the language code of the locale, which babel's functions take."""
    return _LOCALE.get()


def gettext(message: str, **values: Any) -> str:
    """Translate a phrase, then replace its `{names}` by values. A phrase without a translation stays English."""
    return _load_catalog(_LOCALE.get()).gettext(message).format(**values)


def ngettext(singular: str, plural: str, n: int, **values: Any) -> str:
    """Translate a phrase in the plural form for `n`.

    Args:
        singular: The English phrase for one.
        plural: The English phrase for any other number.
        n: The number; `{n}` in the phrase, formatted.
        **values: Values of the other `{names}` in the phrase.

    Returns:
        The translated phrase.

    Example:
        >>> ngettext("{n} token", "{n} tokens", 1200)
        '1,200 tokens'
    """
    phrase = _load_catalog(_LOCALE.get()).ngettext(singular, plural, n)
    return phrase.format(n=format_decimal(n, locale=_LOCALE.get()), **values)


def language_name(code: str) -> str:
    """Return the name of a language, or `code` itself if it is not a language code."""
    return _get_locale(_LOCALE.get()).languages.get(code, code)


def format_in_language(code: str) -> str:
    """Return the name of a language with its preposition: `in Russian`, `на русском`.

    Catalogs translate `in Russian`, `in English` … as whole phrases, since the form of the name depends on the
    language. For a language without such a phrase they translate `in {language}`.
    """
    phrase = f"in {_get_locale('en').languages.get(code, code)}"
    translation = _load_catalog(_LOCALE.get()).gettext(phrase)
    return gettext("in {language}", language=language_name(code)) if translation == phrase else translation


@cache
def _get_locale(language: str) -> Locale:
    return Locale.parse(language)


@cache
def _load_catalog(language: str) -> NullTranslations:
    if language == "en":
        return NullTranslations()
    source = (resources.files("lep.reporting") / "phrases" / f"{language}.po").read_bytes()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source)))
    compiled.seek(0)
    return GNUTranslations(compiled)
