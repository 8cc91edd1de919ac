"""Metrics that can be compared between vocabularies."""

from __future__ import annotations

import pytest
from scipy.stats import binom, binomtest

from lep.core.metrics import (
    bits_per_byte,
    bytes_per_token,
    characters_per_token,
    compute_accuracy,
    median_confidence_interval,
)


def test_symbols_are_characters_and_bytes_are_utf8() -> None:
    assert characters_per_token(["мир", "abc"], tokens=3) == 2
    assert bytes_per_token(["мир", "abc"], tokens=3) == 3
    assert bits_per_byte(["мир", "abc"], bits=18.0) == 2


@pytest.mark.parametrize(("correct", "items"), [(0, 5), (5, 5), (37, 120), (1, 1)])
def test_accuracy_interval_is_wilsons(correct: int, items: int) -> None:
    result = compute_accuracy(correct, items)
    expected = binomtest(correct, items).proportion_ci(method="wilson")
    assert result.accuracy == correct / items
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= result.low <= result.accuracy <= result.high <= 1


def test_accuracy_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        compute_accuracy(0, 0)


def test_the_median_interval_needs_six_values() -> None:
    assert median_confidence_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (1, 6)
    assert median_confidence_interval([float(i) for i in range(9)]) == (1, 7)  # 2 · P(Bin(9, ½) < 2) = 0.039
    with pytest.raises(ValueError, match=r"5 values have no interval of 0\.95"):
        median_confidence_interval([0.0] * 5)


@pytest.mark.parametrize("n", [6, 17, 40])
def test_the_median_interval_is_the_narrowest_that_is_sure_enough(n: int) -> None:
    low, high = median_confidence_interval([float(i) for i in range(n)])
    assert high == n - 1 - low
    assert 2 * binom.cdf(low, n, 0.5) <= 0.05 < 2 * binom.cdf(low + 1, n, 0.5)
