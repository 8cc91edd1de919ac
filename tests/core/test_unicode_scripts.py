"""Letters are counted by script; a token's script is that of most of its letters."""

from __future__ import annotations

from collections import Counter

import pytest

from lep.core.unicode_scripts import count_scripts, detect_script


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("word", "Latin"),
        (" слово", "Cyrillic"),
        ("xдом", "Cyrillic"),  # most letters decide
        ("aд", "Latin"),  # the first on a tie
        ("дa", "Cyrillic"),
        ("αρχή", "Greek"),
        ("漢字", "Han"),
        ("ひら", "Hiragana"),
        ("한", "Hangul"),
        ("سلام", "Arabic"),
        ("ⴰ", "other"),  # Tifinagh
        (" 42!", "no letters"),
        ("…", "no letters"),
    ],
)
def test_script_is_that_of_most_letters(token: str, script: str) -> None:
    assert detect_script(token.encode()) == script


def test_bytes_inside_a_character_have_no_script() -> None:
    assert detect_script("д".encode()[:1]) == detect_script(b"word" + "д".encode()[:1]) == "partial UTF-8"


def test_letters_are_counted_in_order_of_first_occurrence() -> None:
    counts = count_scripts("1. Да, no — ⴰ\u0301\ud800 no")
    assert list(counts.items()) == [("Cyrillic", 2), ("Latin", 4), ("other", 1)]
    assert count_scripts("42 …") == Counter()


def test_a_name_prefix_counts_letters_by_the_beginning_of_their_unicode_names() -> None:
    text = "漢字 한 ⴰ Aa"
    assert count_scripts(text, name_prefix="Han") == {"Han": 2, "HAN": 1, "other": 1, "Latin": 2}
    assert count_scripts(text, name_prefix="tifinagh") == {"Han": 2, "Hangul": 1, "TIFINAGH": 1, "Latin": 2}
    assert count_scripts(text, name_prefix="latin small")["LATIN SMALL"] == 1
    assert count_scripts(text, name_prefix="other")["OTHER"] == 0
