"""Confidence intervals of scores and of their differences, by the bootstrap.

The units of a task (documents, pairs, exam variants) are resampled with replacement and scored again. The resamples
depend on the seed, the task and the number of units, not on the model. Two models are therefore scored on the same
resamples, and what is hard for both cancels in their difference. An average is resampled by resampling its tasks.
See [Paired differences](docs/mathematics.md#paired-differences).

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, the percentile interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lep.core.metrics import compute_accuracy
from lep.results.statistics import FractionEstimate

NUM_RESAMPLES = 1000
MIN_UNITS = 6
"""Fewest units that support an interval of 95 %: five differ all in one direction by chance in 1 of 16 cases."""
INTERVAL_PERCENTILES = (2.5, 97.5)
"""Percentiles of the resamples that bound the interval of 95 %."""


@dataclass(frozen=True)
class BootstrapEstimate:
    """A score with its bootstrap distribution. Differences and ratios are formed resample by resample."""

    value: float
    resamples: np.ndarray
    num_units: int
    """Number of resampled units; for an average of tasks, that of the smallest task."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile interval."""
        low, high = np.percentile(self.resamples, INTERVAL_PERCENTILES)
        return float(low), float(high)

    @property
    def supported_interval(self) -> tuple[float, float] | None:
        """The interval, or `None` with fewer than `MIN_UNITS` units."""
        return self.interval if self.num_units >= MIN_UNITS else None

    def __sub__(self, other: BootstrapEstimate) -> BootstrapEstimate:
        return BootstrapEstimate(self.value - other.value, self.resamples - other.resamples, self.num_units)

    def __truediv__(self, other: BootstrapEstimate) -> BootstrapEstimate:
        return BootstrapEstimate(self.value / other.value, self.resamples / other.resamples, self.num_units)


def bootstrap(
    units: Sequence[Any],
    statistic: Callable[[Sequence[Any]], float],
    *,
    name: str,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> BootstrapEstimate:
    """Estimate a statistic of some units and its distribution over resamples of as many units.

    Args:
        units: What is resampled, at least one.
        statistic: Computes the score of a sequence of units.
        name: Of the task. With the seed and the number of units it determines the resamples.
        seed: Of the random numbers.
        num_resamples: How often the units are resampled.

    Returns:
        The statistic of the units themselves, and of each resample.

    Example:
        >>> from statistics import fmean
        >>> estimate = bootstrap([0.0, 1.0] * 50, fmean, name="task", seed=0)
        >>> low, high = estimate.interval
        >>> estimate.value, low < 0.5 < high
        (0.5, True)
    """
    random = np.random.default_rng([seed, *name.encode()])
    rows = (random.integers(len(units), size=len(units)).tolist() for _ in range(num_resamples))
    resamples = np.array([statistic([units[index] for index in row]) for row in rows])
    return BootstrapEstimate(statistic(units), resamples, len(units))


def average_estimates(estimates: Sequence[BootstrapEstimate]) -> BootstrapEstimate:
    """Return the plain mean of the scores of several tasks, which are resampled independently."""
    value = np.mean([estimate.value for estimate in estimates])
    resamples = np.mean([estimate.resamples for estimate in estimates], axis=0)
    return BootstrapEstimate(float(value), resamples, min(estimate.num_units for estimate in estimates))


def estimate_fraction(outcomes: Sequence[bool]) -> FractionEstimate:
    """Return the fraction of true outcomes with Wilson's interval."""
    accuracy = compute_accuracy(sum(outcomes), len(outcomes))
    return FractionEstimate(accuracy.accuracy, (accuracy.low, accuracy.high), accuracy.items)
