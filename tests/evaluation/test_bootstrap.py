"""Intervals are those of scipy's bootstrap, and paired resamples make differences precise."""

from __future__ import annotations

import random
from statistics import fmean

import numpy as np
import pytest
import scipy.stats

from lep.core.metrics import compute_accuracy
from lep.evaluation.bootstrap import MIN_UNITS, average_estimates, bootstrap, estimate_fraction

RANDOM = random.Random(0)
OUTCOMES = [float(RANDOM.random() < 0.3) for _ in range(200)]


def test_interval_is_that_of_scipy() -> None:
    estimate = bootstrap(OUTCOMES, fmean, name="t", seed=0, num_resamples=4000)
    expected = scipy.stats.bootstrap(
        (OUTCOMES,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    )
    assert estimate.value == fmean(OUTCOMES)
    assert estimate.interval == pytest.approx(expected.confidence_interval, abs=0.006)


def test_statistic_is_computed_again_for_each_resample() -> None:
    estimate = bootstrap([1.0, 2.0, 9.0], max, name="t", seed=0, num_resamples=2000)
    fraction = (estimate.resamples == 9).mean()
    assert fraction == pytest.approx(1 - (2 / 3) ** 3, abs=0.03)  # the resamples that contain the maximum
    assert set(estimate.resamples) == {1.0, 2.0, 9.0}


def test_resamples_depend_on_seed_and_task() -> None:
    def resamples(task: str, seed: int) -> list[float]:
        return bootstrap(OUTCOMES, fmean, name=task, seed=seed, num_resamples=50).resamples.tolist()

    assert resamples("a", 0) == resamples("a", 0)
    assert resamples("a", 0) != resamples("a", 1)
    assert resamples("a", 0) != resamples("b", 0)


def test_what_is_hard_for_both_models_cancels_in_their_difference() -> None:
    better_outcomes = [1.0 if i % 50 == 0 else outcome for i, outcome in enumerate(OUTCOMES)]
    better, worse = (bootstrap(outcomes, fmean, name="t", seed=0) for outcomes in (better_outcomes, OUTCOMES))
    low, high = (better - worse).interval
    assert (better - worse).value == pytest.approx(fmean(better_outcomes) - fmean(OUTCOMES))
    assert 0 <= low < (better - worse).value < high
    unpaired = bootstrap(OUTCOMES, fmean, name="u", seed=0)
    assert high - low < 0.4 * np.subtract(*(better - unpaired).interval[::-1])
    assert (better - better).interval == (0, 0)


def test_ratio_is_formed_resample_by_resample() -> None:
    estimate = bootstrap(OUTCOMES, fmean, name="t", seed=0)
    doubled = bootstrap([2 * outcome for outcome in OUTCOMES], fmean, name="t", seed=0)
    assert (doubled / estimate).value == pytest.approx(2) and (doubled / estimate).interval == pytest.approx((2, 2))


def test_average_has_the_spread_of_independent_tasks() -> None:
    tasks = [bootstrap(OUTCOMES, fmean, name=f"t{i}", seed=0) for i in range(4)]
    assert average_estimates(tasks).value == pytest.approx(fmean(OUTCOMES))
    assert average_estimates(tasks).resamples.std() == pytest.approx(tasks[0].resamples.std() / 2, rel=0.1)


def test_an_interval_is_supported_from_six_units_on() -> None:
    assert MIN_UNITS == 6
    six, five = (bootstrap(OUTCOMES[:count], fmean, name="t", seed=0) for count in (6, 5))
    assert six.supported_interval == six.interval and five.supported_interval is None
    assert (six - six).supported_interval == (0, 0) and (five - five).supported_interval is None
    assert (
        average_estimates([six, six]).supported_interval and average_estimates([six, five]).supported_interval is None
    )


def test_fraction_has_the_interval_of_wilson() -> None:
    fraction, accuracy = estimate_fraction([True, False, False, False]), compute_accuracy(1, 4)
    assert (fraction.score, fraction.items) == (0.25, 4) and fraction.interval == (accuracy.low, accuracy.high)
