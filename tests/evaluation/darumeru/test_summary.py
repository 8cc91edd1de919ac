"""Scores of a model have intervals, averages name what they leave out, and differences are paired."""

from __future__ import annotations

from typing import Any

import pytest

from lep.config.benchmark import DARUMERU_TASK_GROUPS
from lep.errors import DataError
from lep.evaluation.darumeru.aggregation import TASKS, compute_averages
from lep.evaluation.darumeru.summary import TaskEstimate, estimate_task, score_differences, summarize_scores
from lep.results.evaluation import ModelBenchmarkScores, TaskScore

CHOICES = [[0, 0], [1, 1], [2, 0], [1, 1]]
SUBJECTS = [["anatomy", 1.0], ["anatomy", 0.0], ["astronomy", 1.0]]
RESULTS: dict[str, list[Any]] = {
    "darumeru_parus": [["a", 1.0], ["a", 1.0], ["b", 1.0], ["b", 0.0]],
    "darumeru_use": [[1, 2, 3], [1, 1, 1], [2, 0, 4]],
    **dict.fromkeys(("darumeru_rcb", "darumeru_ruopenbookqa", "darumeru_ruworldtree", "darumeru_rucola"), CHOICES),
    **dict.fromkeys(("darumeru_mmlu_ru", "darumeru_mmlu_en"), SUBJECTS),
}
"""As they are read from files: lists."""


def estimate(task: str) -> TaskEstimate:
    return estimate_task(task, RESULTS.get(task, [1.0, 0.0, 0.5]), seed=0)


def summarize(scores: dict[str, TaskEstimate], **unsupported: str) -> ModelBenchmarkScores:
    return summarize_scores(scores, num_fewshot=0, chat_template=True, unsupported=unsupported)


def test_a_complete_summary_has_the_averages_of_the_paper() -> None:
    summary = summarize({task: estimate(task) for task in TASKS})
    parus, micro = summary.tasks["darumeru_parus"], summary.micro_average
    assert parus.score == 0.5  # one pair of two, in both orders
    assert parus.items == 4
    assert summary.tasks["darumeru_use"].score == pytest.approx((3 / 4 + 0) / 2)
    expected = compute_averages({task: row.score or 0.0 for task, row in summary.tasks.items()})
    assert micro and micro.score == pytest.approx(expected.micro_average)
    assert {group: row.score for group, row in summary.groups.items()} == pytest.approx(expected.groups)
    assert summary.missing == micro.missing == ()
    for row in (*summary.tasks.values(), *summary.groups.values(), micro):
        assert row.interval and row.score is not None and row.interval[0] <= row.score <= row.interval[1]
    assert parus.interval and 0 < micro.interval[1] - micro.interval[0] < (parus.interval[1] - parus.interval[0]) / 2


def test_averages_name_what_they_leave_out() -> None:
    tasks = ("darumeru_abstractive", "darumeru_cp_sent_en", "darumeru_cp_para_en")
    summary = summarize({task: estimate(task) for task in tasks}, darumeru_extractive="no log-probabilities")
    assert summary.groups.keys() == {"DaruSum", "DaruCopy-EN"}
    assert summary.groups["DaruSum"].missing == ("darumeru_extractive",)
    assert summary.groups["DaruCopy-EN"].missing == ()
    assert summary.tasks["darumeru_extractive"] == TaskScore("DaruSum", error="no log-probabilities")
    assert summary.micro_average
    assert summary.missing == summary.micro_average.missing == tuple(task for task in TASKS if task not in tasks)


def test_without_a_score_there_is_no_average() -> None:
    summary = summarize({})
    assert summary.micro_average is None and summary.groups == {} and summary.missing == tuple(TASKS)


def test_a_model_is_compared_where_both_have_a_score() -> None:
    reference = {task: estimate(task) for task in TASKS}
    better = {task: estimate_task(task, [1.0, 1.0, 1.0], seed=0) for task in DARUMERU_TASK_GROUPS["DaruSum"]}
    differences = score_differences(better, reference, reference="r")
    assert differences.reference == "r" and differences.tasks.keys() == better.keys()
    assert differences.tasks["darumeru_extractive"].difference == 0.5
    assert differences.groups["DaruSum"].difference == 0.5 and differences.groups["DaruSum"].missing == ()
    assert differences.micro_average and len(differences.micro_average.missing) == 15
    same = score_differences(reference, reference, reference="r")
    assert all(row.interval == (0, 0) and row.difference == 0 for row in same.tasks.values())


def test_a_task_without_a_unit_is_an_error() -> None:
    with pytest.raises(DataError, match="no pair of PARus has both orders"):
        estimate_task("darumeru_parus", [["a", 1.0]], seed=0)
