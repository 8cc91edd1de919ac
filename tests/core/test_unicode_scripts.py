"""A token's script is that of most of its letters."""

from __future__ import annotations

import pytest

from lep.core.unicode_scripts import script_of


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
    assert script_of(token.encode()) == script


def test_bytes_inside_a_character_have_no_script() -> None:
    assert script_of("д".encode()[:1]) == script_of(b"word" + "д".encode()[:1]) == "partial UTF-8"
