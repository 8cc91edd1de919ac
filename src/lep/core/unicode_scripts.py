"""The script of a text's letters, from their Unicode names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache

NO_LETTERS, PARTIAL_UTF8, OTHER_SCRIPT = "no letters", "partial UTF-8", "other"

_SCRIPT_BY_NAME_PREFIX = {"CJK": "Han"} | {
    name.upper(): name
    for name in (
        "Latin Cyrillic Greek Armenian Georgian Hebrew Arabic Ethiopic Devanagari Bengali Gurmukhi Gujarati Tamil "
        "Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Khmer Mongolian Hangul Hiragana Katakana"
    ).split()
}
"""Script by the first word of a letter's Unicode name."""


def count_scripts(text: str, *, name_prefix: str = "") -> Counter[str]:
    """Count the letters of a text by script, in order of first occurrence.

    >>> count_scripts("Да no 1")
    Counter({'Cyrillic': 2, 'Latin': 2})
    >>> count_scripts("漢字 kana", name_prefix="cjk unified")
    Counter({'Latin': 4, 'CJK UNIFIED': 2})

    Args:
        text: any text; what is not a letter is not counted.
        name_prefix: the beginning of Unicode letter names, in any case. Letters with such names are counted under it,
            in capitals, instead of under their script. It may name a script that is not listed here (`Tifinagh`), a
            part of one (`Latin small`) or several (`Han` is also the beginning of `HANGUL`).

    Returns:
        Number of letters by script; letters of other scripts are under `OTHER_SCRIPT`.
    """
    counts: Counter[str] = Counter()
    prefix = name_prefix.upper()
    for character, count in Counter(text).items():
        if character.isalpha():
            counts[_detect_letter_script(character, prefix)] += count
    return counts


def detect_script(token: bytes) -> str:
    """Return the script of most letters of a token, the one that occurs first on a tie."""
    try:
        scripts = count_scripts(token.decode())
    except UnicodeDecodeError:
        return PARTIAL_UTF8
    return scripts.most_common(1)[0][0] if scripts else NO_LETTERS


@cache
def _detect_letter_script(letter: str, name_prefix: str) -> str:
    name = unicodedata.name(letter, "")
    if name_prefix and name.startswith(name_prefix):
        return name_prefix
    return _SCRIPT_BY_NAME_PREFIX.get(name.split(" ")[0], OTHER_SCRIPT)
