"""How far a score may be from what other items of the same kind would give: the bootstrap, also for differences.

The units of a task are drawn again with replacement, and scored again. The draws depend on the seed, the task and the
number of units, not on the model: two models are scored on the same draws, so that what is hard for both does not
blur their difference. An average is drawn by drawing each of its tasks.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, the percentile interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lep.core.metrics import accuracy

DRAWS = 1000
FEWEST = 6
"""Units of which an interval of 95 % can be told: five differ all in one direction by chance in 1 of 16 cases."""
TAILS = (2.5, 97.5)
"""Percentiles of the draws that bound the interval of 95 %."""


@dataclass(frozen=True)
class Estimate:
    """A value, and what it is in each draw."""

    value: float
    draws: np.ndarray
    units: int
    """That are drawn; of an average, in the task that has the fewest."""

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %."""
        low, high = np.percentile(self.draws, TAILS)
        return float(low), float(high)

    def __sub__(self, other: Estimate) -> Estimate:
        """Draw by draw."""
        return Estimate(self.value - other.value, self.draws - other.draws, self.units)

    def __truediv__(self, other: Estimate) -> Estimate:
        """Draw by draw."""
        return Estimate(self.value / other.value, self.draws / other.draws, self.units)


def estimate(
    units: Sequence[Any], score: Callable[[Sequence[Any]], float], *, task: str, seed: int, draws: int = DRAWS
) -> Estimate:
    """The score of a task's units, and of so many draws of as many units."""
    random = np.random.default_rng([seed, *task.encode()])
    places = (random.integers(len(units), size=len(units)).tolist() for _ in range(draws))
    found = np.array([score([units[place] for place in drawn]) for drawn in places])
    return Estimate(score(units), found, len(units))


def mean(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean of the scores of several tasks, whose draws are independent."""
    value, draws = np.mean([part.value for part in parts]), np.mean([part.draws for part in parts], axis=0)
    return Estimate(float(value), draws, min(part.units for part in parts))


def with_interval(found: Estimate, key: str) -> dict[str, Any]:
    """A value and its interval, none of fewer units than `FEWEST`: so few say nothing of others."""
    return {key: found.value, "interval": list(found.interval) if found.units >= FEWEST else None}


def share(marks: Sequence[bool]) -> dict[str, Any]:
    """The share of marks, with Wilson's interval."""
    found = accuracy(sum(marks), len(marks))
    return {"score": found.accuracy, "interval": [found.low, found.high], "items": found.items}
