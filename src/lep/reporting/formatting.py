"""Numbers as text: one function for each kind of number, so that the page, the card and the terminal round alike.

Separators and units are those of the locale (babel). Digits are those of Python's own formatting: half-even rounding of
the exact binary value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from babel import numbers
from babel.units import format_unit

from lep.reporting.i18n import current_locale, gettext

Formatter = Callable[[float | None], str]
"""Formats one kind of number; a dash for None."""

NOT_MEASURED = "–"
_NO_BREAK_SPACE = "\u00a0"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_decimal(value: float | None, places: int = 2) -> str:
    """Format a number.

    Args:
        value: The number.
        places: Number of decimals.

    Returns:
        The text; a dash for None, NaN and infinity.

    Example:
        >>> format_decimal(1234.5)
        '1,234.50'
    """
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return numbers.format_decimal(Decimal(value), format=_number_pattern(places), locale=current_locale())


def format_count(value: float | None) -> str:
    """Format an integer with group separators."""
    return format_decimal(value, 0)


def format_characters_per_token(value: float | None) -> str:
    """Format characters per token with two decimals."""
    return format_decimal(value, 2)


def format_bits_per_byte(value: float | None) -> str:
    """Format bits per byte with three decimals: differences that matter are in the second."""
    return format_decimal(value, 3)


def format_rate(value: float | None) -> str:
    """Format units per second: an integer from 100 on, else with one decimal."""
    return format_decimal(value, 0 if value is not None and value >= 100 else 1)


def format_score(value: float | None) -> str:
    """Format a benchmark score with three decimals, as in the paper."""
    return format_decimal(value, 3)


def format_signed(value: float | None, formatter: Formatter = format_score) -> str:
    """Format a difference with its sign; a dash for None."""
    return NOT_MEASURED if value is None else f"{'−' if value < 0 else '+'}{formatter(abs(value))}"


def format_interval(interval: tuple[float, float], formatter: Formatter) -> str:
    """Format both ends of an interval: `0.50–0.60`."""
    return "–".join(map(formatter, interval))


def format_ratio(value: float | None, reference: float | None) -> str:
    """Format `value / reference` as a multiple: `2.10 ×`; a dash if one is missing or the reference is 0."""
    if value is None or not reference:
        return NOT_MEASURED
    return f"{format_decimal(value / reference, 2)}{_NO_BREAK_SPACE}×"


def format_percent(share: float | None, places: int = 1) -> str:
    """Format a share as a percentage with `places` decimals; a dash if it is None or not finite."""
    if share is None or not math.isfinite(share):
        return NOT_MEASURED
    percentage = Decimal(100 * share)  # as a float, like Python's `%` format: 1/80 is 1.25 %, a tie
    pattern = f"{_number_pattern(places)}{_NO_BREAK_SPACE}%"
    return numbers.format_percent(percentage / 100, format=pattern, locale=current_locale())


def format_percent_interval(low: float, high: float) -> str:
    """Format an interval of a share in whole percent: `65–76 %`."""
    return f"{format_decimal(100 * low, 0)}–{format_percent(high, 0)}"


def format_magnitude(value: float) -> str:
    """Format a count, from a million on in words: `1.2 million`."""
    if value >= 1e9:
        return gettext("{n} billion", n=format_decimal(value / 1e9, 1 if value < 1e11 else 0))
    if value >= 1e6:
        return gettext("{n} million", n=format_decimal(value / 1e6, 1 if value < 1e8 else 0))
    return format_count(value)


def format_condition_number(value: float | None) -> str:
    """Format a condition number as an integer, from 100,000 on as a power of ten: `3.2 · 10¹⁶`."""
    if value is None or not math.isfinite(value) or value < 1e5:
        return format_decimal(value, 0)
    mantissa, exponent = f"{value:.1e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return f"{format_decimal(float(mantissa), 1)}{_NO_BREAK_SPACE}·{_NO_BREAK_SPACE}{power}"


def format_duration(seconds: float) -> str:
    """Format wall time in its two largest units: `2 h 05 min`, `4 min 10 s`, `3.2 s`."""
    if seconds < 60:
        return gettext("{n} s", n=format_decimal(seconds, 1 if seconds < 10 else 0))
    whole_seconds = round(seconds)
    if whole_seconds < 3600:
        return gettext("{m} min {s} s", m=whole_seconds // 60, s=f"{whole_seconds % 60:02d}")
    minutes = round(seconds / 60)
    return gettext("{h} h {m} min", h=format_count(minutes // 60), m=f"{minutes % 60:02d}")


def format_bytes(value: float | None) -> str:
    """Format a number of bytes in decimal units: kB, MB or GB; a dash for None."""
    if value is None:
        return NOT_MEASURED
    if value >= 1e9:
        amount, unit, places = value / 1e9, "gigabyte", 1
    elif value >= 1e6:
        amount, unit, places = value / 1e6, "megabyte", 0
    else:
        amount, unit, places = value / 1e3, "kilobyte", 1 if value < 1e4 else 0
    pattern = _number_pattern(places)
    return format_unit(Decimal(amount), f"digital-{unit}", "short", format=pattern, locale=current_locale())


def _number_pattern(places: int) -> str:
    """Return the CLDR pattern of a number with group separators and `places` decimals."""
    return f"#,##0.{'0' * places}" if places else "#,##0"
