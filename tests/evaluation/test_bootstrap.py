from __future__ import annotations

import random
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import bootstrap

from lep.evaluation.bootstrap import estimate, mean

CHANCE = random.Random(0)
MARKS = [float(CHANCE.random() < 0.3) for _ in range(200)]


def test_the_interval_is_that_of_scipy() -> None:
    found = estimate(MARKS, fmean, task="t", seed=0, draws=4000)
    theirs = bootstrap((MARKS,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert found.value == fmean(MARKS)
    assert found.interval == pytest.approx(theirs.confidence_interval, abs=0.006)


def test_a_score_that_is_no_mean_is_scored_again_in_each_draw() -> None:
    found = estimate([1.0, 2.0, 9.0], max, task="t", seed=0, draws=2000)
    share = (found.draws == 9).mean()
    assert share == pytest.approx(1 - (2 / 3) ** 3, abs=0.03)  # the draws that hold the greatest
    assert set(found.draws) == {1.0, 2.0, 9.0}


def test_draws_are_those_of_the_seed_and_the_task() -> None:
    def draws(task: str, seed: int) -> list[float]:
        return estimate(MARKS, fmean, task=task, seed=seed, draws=50).draws.tolist()

    assert draws("a", 0) == draws("a", 0)
    assert draws("a", 0) != draws("a", 1)
    assert draws("a", 0) != draws("b", 0)


def test_what_is_hard_for_both_models_does_not_blur_their_difference() -> None:
    better = [1.0 if i % 50 == 0 else mark for i, mark in enumerate(MARKS)]
    one, other = (estimate(marks, fmean, task="t", seed=0) for marks in (better, MARKS))
    low, high = (one - other).interval
    assert (one - other).value == pytest.approx(fmean(better) - fmean(MARKS))
    assert 0 <= low < (one - other).value < high
    alone = estimate(MARKS, fmean, task="u", seed=0)
    assert high - low < 0.4 * np.subtract(*(one - alone).interval[::-1])  # as if asked other questions
    assert (one - one).interval == (0, 0)


def test_an_average_has_the_spread_of_independent_parts() -> None:
    parts = [estimate(MARKS, fmean, task=f"t{i}", seed=0) for i in range(4)]
    assert mean(parts).value == pytest.approx(fmean(MARKS))
    assert mean(parts).draws.std() == pytest.approx(parts[0].draws.std() / 2, rel=0.1)
