from __future__ import annotations

from typing import Any

import pytest

from lep.config.benchmark import DARUMERU
from lep.errors import DataError
from lep.evaluation.darumeru.aggregation import TASKS, summarize
from lep.evaluation.darumeru.summary import compared, scored, standing

CHOICES = [[0, 0], [1, 1], [2, 0], [1, 1]]
SUBJECTS = [["anatomy", 1.0], ["anatomy", 0.0], ["astronomy", 1.0]]
RESULTS: dict[str, list[Any]] = {
    "darumeru_parus": [["a", 1.0], ["a", 1.0], ["b", 1.0], ["b", 0.0]],
    "darumeru_use": [[1, 2, 3], [1, 1, 1], [2, 0, 4]],
    **dict.fromkeys(("darumeru_rcb", "darumeru_ruopenbookqa", "darumeru_ruworldtree", "darumeru_rucola"), CHOICES),
    **dict.fromkeys(("darumeru_mmlu_ru", "darumeru_mmlu_en"), SUBJECTS),
}
"""As they are read back from files: lists."""


def results(task: str) -> list[Any]:
    return RESULTS.get(task, [1.0, 0.0, 0.5])


def test_the_settings_know_the_tasks_and_groups() -> None:
    assert {task: group for group, tasks in DARUMERU.items() for task in tasks} == {
        task: found.group for task, found in TASKS.items()
    }
    assert [task for tasks in DARUMERU.values() for task in tasks] == list(TASKS)


def test_a_whole_standing_has_the_averages_of_the_paper() -> None:
    scores = {task: scored(task, results(task), seed=0) for task in TASKS}
    told = standing(scores, refused={})
    assert told["tasks"]["darumeru_parus"]["score"] == 0.5  # one pair of two, in both orders
    assert told["tasks"]["darumeru_parus"]["items"] == 4
    assert told["tasks"]["darumeru_use"]["score"] == pytest.approx((3 / 4 + 0) / 2)
    expected = summarize({task: row["score"] for task, row in told["tasks"].items()})
    assert told["micro"]["score"] == pytest.approx(expected.micro)
    assert {group: row["score"] for group, row in told["groups"].items()} == pytest.approx(expected.groups)
    assert told["missing"] == told["micro"]["missing"] == []
    for row in (*told["tasks"].values(), *told["groups"].values(), told["micro"]):
        low, high = row["interval"]
        assert low <= row["score"] <= high
    micro, widest = told["micro"]["interval"], told["tasks"]["darumeru_parus"]["interval"]
    assert 0 < micro[1] - micro[0] < (widest[1] - widest[0]) / 2


def test_averages_say_what_they_leave_out() -> None:
    tasks = ("darumeru_abstractive", "darumeru_cp_sent_en", "darumeru_cp_para_en")
    scores = {task: scored(task, results(task), seed=0) for task in tasks}
    told = standing(scores, refused={"darumeru_extractive": "no probabilities"})
    assert told["groups"].keys() == {"DaruSum", "DaruCopy-EN"}
    assert told["groups"]["DaruSum"]["missing"] == ["darumeru_extractive"]
    assert told["groups"]["DaruCopy-EN"]["missing"] == []
    assert told["tasks"]["darumeru_extractive"] == {"group": "DaruSum", "error": "no probabilities"}
    assert told["missing"] == told["micro"]["missing"] == [task for task in TASKS if task not in tasks]
    assert standing({}, refused={})["micro"] is None


def test_a_model_is_compared_where_both_have_a_score() -> None:
    whole = {task: scored(task, results(task), seed=0) for task in TASKS}
    better = {task: scored(task, [1.0, 1.0, 1.0], seed=0) for task in DARUMERU["DaruSum"]}
    told = compared(better, whole)
    assert told["tasks"].keys() == better.keys()
    assert told["tasks"]["darumeru_extractive"]["difference"] == 0.5
    assert told["groups"]["DaruSum"]["difference"] == 0.5
    assert told["groups"]["DaruSum"]["missing"] == [] and len(told["micro"]["missing"]) == 15
    same = compared(whole, whole)
    assert all(row["interval"] == [0, 0] and row["difference"] == 0 for row in same["tasks"].values())


def test_a_task_without_a_unit_is_an_error() -> None:
    with pytest.raises(DataError, match="no pair of PARus was asked in both orders"):
        scored("darumeru_parus", [["a", 1.0]], seed=0)
