"""Cleaning keeps the text, and a filter names the reason of each rejection."""

from __future__ import annotations

import pytest

from lep.data.cleaning import DocumentFilter, clean_text, compute_script_fraction

SENTENCE = "Мама мыла раму, а потом пошла гулять в большой городской парк."


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("one\r\ntwo\rthree\ffour\x85five", "one\ntwo\nthree\nfour\nfive"),
        ("  a\tb \n\n c\x00\x07 \n", "a\tb \n\n c"),
        ("one\u2028two\u00a0three", "one\u2028two\u00a0three"),
    ],
)
def test_only_line_breaks_and_control_characters_change(raw: str, text: str) -> None:
    assert clean_text(raw) == text


def test_the_script_fraction_counts_letters_only() -> None:
    assert compute_script_fraction("Да no", "Cyrillic") == 0.5
    assert compute_script_fraction("Да no", "latin") == 0.5
    assert compute_script_fraction("漢字かな", "CJK") == 0.5
    assert compute_script_fraction("123 …", "Cyrillic") == 0.0


@pytest.mark.parametrize(
    ("condition", "text", "reason"),
    [
        ({}, SENTENCE, ""),
        ({"min_characters": len(SENTENCE)}, SENTENCE, ""),
        ({"min_characters": len(SENTENCE) + 1}, SENTENCE, "too short"),
        ({"script": "Cyrillic", "min_script_fraction": 0.5}, "Да no", ""),
        ({"script": "Cyrillic", "min_script_fraction": 0.51}, "Да no", "wrong script"),
        ({"language": "ru"}, SENTENCE, ""),
        ({"language": "uk"}, SENTENCE, "wrong language"),
    ],
)
def test_a_document_is_rejected_at_the_limit_of_a_condition(condition, text: str, reason: str) -> None:
    document_filter = DocumentFilter(**{"min_characters": 1, **condition})
    assert document_filter.find_rejection_reason(text) == reason
