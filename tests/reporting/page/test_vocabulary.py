"""Tokens as the page shows them."""

from __future__ import annotations

import pytest

from lep.reporting.page.vocabulary import Part, parts


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" на", [Part("·на")]),
        ("\n", [Part("↵")]),
        ("", [Part("∅")]),
        ("ок", [Part("ок")]),
        (r"о\xd0\xba", [Part("о"), Part(digits="d0"), Part(digits="ba")]),
    ],
)
def test_white_space_is_visible_and_bytes_are_digits(token: str, shown: list[Part]) -> None:
    assert parts(token) == shown
