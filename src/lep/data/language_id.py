"""Identify the language of a text by py3langid, whose model is part of its package."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from lep.errors import UsageError

_MAX_CHARACTERS = 2_000
"""Longer texts are truncated."""
_NO_LANGUAGE = "zxx"
"""Code of texts in no language, as numbers."""


def identify_language(text: str) -> str:
    """Return the ISO 639 code of the language that the beginning of a text is most likely in; `zxx`: no language."""
    return _load_identifier().classify(text[:_MAX_CHARACTERS])[0]


def check_language(code: str, *, setting: str) -> None:
    """Check that a language can be identified.

    Args:
        code: ISO 639-1, or 639-3 for a language without a shorter code.
        setting: Name of the setting with the code, for errors.

    Raises:
        UsageError: The language is unknown; the message lists the known ones.
    """
    known = sorted({*_load_identifier().labels} - {_NO_LANGUAGE})
    if code in known:
        return
    matches = get_close_matches(code.lower(), known, n=3, cutoff=0.5)
    hint = f"; similar: {', '.join(matches)}" if matches else ""
    raise UsageError(f"{setting}: {code!r} is not a language that can be identified{hint}; known: {', '.join(known)}")


@cache
def _load_identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE)
