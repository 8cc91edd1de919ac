"""Numbers as text: rounding, separators and units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lep.reporting.formatting import (
    format_bytes,
    format_condition_number,
    format_decimal,
    format_duration,
    format_interval,
    format_magnitude,
    format_percent,
    format_percent_interval,
    format_rate,
    format_ratio,
    format_score,
    format_signed,
)
from lep.reporting.i18n import use_locale


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_duration(3.24), "3.2 s"),
        (format_duration(59.7), "60 s"),
        (format_duration(250), "4 min 10 s"),
        (format_duration(3599.6), "1 h 00 min"),
        (format_duration(7510), "2 h 05 min"),
        (format_bytes(1.93e9), "1.9 GB"),
        (format_bytes(5.1e8), "510 MB"),
        (format_bytes(9999), "10.0 kB"),
        (format_bytes(23_000), "23 kB"),
        (format_bytes(None), "–"),
        (format_magnitude(312_456_789), "312 million"),
        (format_magnitude(2_048_000), "2.0 million"),
        (format_magnitude(1.2e11), "120 billion"),
        (format_magnitude(84_211), "84,211"),
        (format_condition_number(3.2e16), "3.2\u00a0·\u00a010¹⁶"),
        (format_condition_number(91.04), "91"),
        (format_decimal(float("nan")), "–"),
        (format_decimal(0.125), "0.12"),  # half to even
        (format_decimal(2.675), "2.67"),  # the double is less than 2.675
        (format_percent(None), "–"),
        (format_percent(1 / 80), "1.2\u00a0%"),
        (format_percent_interval(0.649, 0.756), "65–76\u00a0%"),
        (format_interval((0.5, 0.6), format_score), "0.500–0.600"),
        (format_signed(-0.2), "−0.200"),
        (format_signed(None), "–"),
        (format_ratio(2.0, 0.0), "–"),
        (format_rate(38.26), "38.3"),
        (format_rate(100), "100"),
    ],
)
def test_rounding(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(-1e15, 1e15), st.integers(0, 4))
def test_digits_are_those_of_python(value: float, places: int) -> None:
    assert format_decimal(value, places) == f"{value:,.{places}f}"
    assert format_percent(value, places) == f"{100 * value:,.{places}f}\u00a0%"


def test_separators_and_units_are_those_of_the_locale() -> None:
    with use_locale("ru"):
        assert format_decimal(1234.5) == "1\u00a0234,50"
        assert format_percent_interval(0.6, 0.7) == "60–70\u00a0%"
        assert format_interval((0.5, 0.6), format_score) == "0,500–0,600"
        assert format_condition_number(3.2e16) == "3,2\u00a0·\u00a010¹⁶"
        assert format_bytes(1.93e9).replace("\u00a0", " ") == "1,9 ГБ"
    assert format_decimal(1234.5) == "1,234.50"
