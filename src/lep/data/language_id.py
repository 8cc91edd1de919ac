"""Which language a text is in, by py3langid, which carries its model along."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from lep.errors import UsageError

_BEGINNING = 2_000
"""Characters of a text that are looked at."""
_NONE = "zxx"
"""What texts in no language, as numbers, are identified as."""


def identify_language(text: str) -> str:
    """ISO 639 code of the language that the beginning of a text is most likely in; `zxx` for what is none."""
    return _identifier().classify(text[:_BEGINNING])[0]


def check_language(code: str, *, place: str) -> None:
    """`UsageError`, with what is possible, when no text is ever identified as being in this language.

    Args:
        code: ISO 639-1, or 639-3 where a language has no shorter one.
        place: the setting that says so.
    """
    known = sorted({*_identifier().labels} - {_NONE})
    if code in known:
        return
    near = get_close_matches(code.lower(), known, n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise UsageError(f"{place}: {code!r} is not a language that can be told{hint}; known: {', '.join(known)}")


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE)
