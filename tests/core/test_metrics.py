"""Numbers that can be compared between vocabularies."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from lep.core.metrics import accuracy, bits_per_byte, symbols_per_token


def test_symbols_are_characters_and_bytes_are_utf8() -> None:
    assert symbols_per_token(["мир", "abc"], tokens=3) == 2
    assert bits_per_byte(["мир", "abc"], bits=18.0) == 2


@pytest.mark.parametrize(("correct", "items"), [(0, 5), (5, 5), (37, 120), (1, 1)])
def test_accuracy_interval_is_wilsons(correct: int, items: int) -> None:
    found = accuracy(correct, items)
    expected = binomtest(correct, items).proportion_ci(method="wilson")
    assert found.accuracy == correct / items
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= found.low <= found.accuracy <= found.high <= 1


def test_accuracy_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        accuracy(0, 0)
