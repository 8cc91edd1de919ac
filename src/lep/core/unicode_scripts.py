"""The script that a token is written in."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache

NO_LETTERS, PARTIAL, OTHER = "no letters", "partial UTF-8", "other"

_SCRIPTS = {"CJK": "Han"} | {
    name.upper(): name
    for name in (
        "Latin Cyrillic Greek Armenian Georgian Hebrew Arabic Ethiopic Devanagari Bengali Gurmukhi Gujarati Tamil "
        "Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Khmer Mongolian Hangul Hiragana Katakana"
    ).split()
}
"""Scripts by the first word of their letters' Unicode names."""


def script_of(token: bytes) -> str:
    """The script of most letters of a token, of the first of them on a tie."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return PARTIAL
    scripts = Counter(_letter_script(character) for character in text if character.isalpha())
    return scripts.most_common(1)[0][0] if scripts else NO_LETTERS


@cache
def _letter_script(letter: str) -> str:
    return _SCRIPTS.get(unicodedata.name(letter, "").split(" ")[0], OTHER)
