"""Values with confidence intervals, as the results hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasuredValue:
    """A measurement, with its 95 % interval where there is one."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Difference:
    """A model's measurement minus its reference's on the same items, with its 95 % interval where there is one."""

    difference: float
    interval: tuple[float, float] | None = None
    missing: tuple[str, ...] = ()
    """Tasks without a score, which an average leaves out."""


@dataclass(frozen=True)
class Ratio:
    """A model's measurement over its reference's, both measured in turns."""

    ratio: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class FractionEstimate:
    """A fraction of items, with its 95 % interval."""

    score: float
    interval: tuple[float, float]
    items: int
