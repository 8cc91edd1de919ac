"""Where a number becomes words: one function a kind of number, so that page and terminal round alike."""

from __future__ import annotations

import math
from collections.abc import Callable

from lep.reporting.i18n import numerals, say

NOTHING = "–"
_SPACE = "\u00a0"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimal(value: float | None, places: int = 2) -> str:
    """A plain number; a dash when it was not measured."""
    return NOTHING if value is None or not math.isfinite(value) else numerals(f"{value:,.{places}f}")


def symbols_per_token(value: float | None) -> str:
    """Symbols per token, two places."""
    return decimal(value, 2)


def bits_per_byte(value: float | None) -> str:
    """Bits per byte, three places: differences that matter are in the second."""
    return decimal(value, 3)


def speed(value: float | None) -> str:
    """Units per second, whole from a hundred on."""
    return decimal(value, 0 if value is not None and value >= 100 else 1)


def score(value: float | None) -> str:
    """A score of the benchmark, three places, as the paper has them."""
    return decimal(value, 3)


def signed(value: float | None, show: Callable[[float | None], str] = score) -> str:
    """A difference, with its sign; a dash when there is none to tell."""
    return NOTHING if value is None else f"{'−' if value < 0 else '+'}{show(abs(value))}"


def ratio(value: float | None, reference: float | None) -> str:
    """How many times the reference: `2.10 ×`, a dash where there is none."""
    if value is None or not reference:
        return NOTHING
    return f"{decimal(value / reference, 2)}{_SPACE}×"


def percent(share: float | None, places: int = 1) -> str:
    """A share as per cent."""
    return NOTHING if share is None or not math.isfinite(share) else f"{decimal(100 * share, places)}{_SPACE}%"


def interval(low: float, high: float) -> str:
    """The ends of an interval of a share, in whole per cent."""
    return f"{100 * low:.0f}–{100 * high:.0f}{_SPACE}%"


def count(value: float | None) -> str:
    """A whole number with separators."""
    return decimal(value, 0)


def magnitude(value: float) -> str:
    """A large whole number in words: `1.2 million`."""
    if value >= 1e9:
        return say("{n} billion", n=decimal(value / 1e9, 1 if value < 1e11 else 0))
    if value >= 1e6:
        return say("{n} million", n=decimal(value / 1e6, 1 if value < 1e8 else 0))
    return count(value)


def condition(value: float | None) -> str:
    """A condition number: whole, or a power of ten when it is large."""
    if value is None or not math.isfinite(value) or value < 1e5:
        return decimal(value, 0)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{numerals(mantissa)}{_SPACE}·{_SPACE}10{str(int(exponent)).translate(_RAISED)}"


def duration(seconds: float) -> str:
    """Wall time, in the two units that matter."""
    if seconds < 60:
        return say("{n} s", n=decimal(seconds, 1 if seconds < 10 else 0))
    whole = round(seconds)
    if whole < 3600:
        return say("{m} min {s} s", m=whole // 60, s=f"{whole % 60:02d}")
    minutes = round(seconds / 60)
    return say("{h} h {m} min", h=count(minutes // 60), m=f"{minutes % 60:02d}")


def memory(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NOTHING
    if value >= 1e9:
        return say("{n} GB", n=decimal(value / 1e9, 1))
    if value >= 1e6:
        return say("{n} MB", n=decimal(value / 1e6, 0))
    return say("{n} kB", n=decimal(value / 1e3, 1 if value < 1e4 else 0))
