"""Averages are those of the paper, over the tasks that have a score."""

from __future__ import annotations

import pytest

from lep.config.benchmark import DARUMERU_TASK_GROUPS
from lep.errors import DataError
from lep.evaluation.darumeru.aggregation import GROUPS, TASKS, compute_averages


def test_tasks_and_groups_are_those_of_the_settings() -> None:
    assert {task: group for group, tasks in DARUMERU_TASK_GROUPS.items() for task in tasks} == {
        task: scoring.group for task, scoring in TASKS.items()
    }
    assert [task for tasks in DARUMERU_TASK_GROUPS.values() for task in tasks] == list(TASKS)


def test_the_micro_average_is_of_17_tasks() -> None:
    scores = {name: i / 17 for i, name in enumerate(TASKS)}
    averages = compute_averages(scores)
    sizes = {"DaruMMLU": 3, "DaruMERA": 8, "DaruSum": 2, "DaruCopy-EN": 2, "DaruCopy-RU": 2}
    assert tuple(sizes) == GROUPS
    assert averages.micro_average == pytest.approx(sum(n * averages.groups[group] for group, n in sizes.items()) / 17)
    assert averages.missing == ()


def test_a_missing_task_is_an_error_unless_allowed_and_then_named() -> None:
    scores = dict.fromkeys(TASKS, 0.5)
    del scores["darumeru_cp_sent_ru"], scores["darumeru_cp_para_ru"]
    with pytest.raises(DataError, match=r"no score of darumeru_cp_sent_ru, darumeru_cp_para_ru: .* all 17 tasks"):
        compute_averages(scores)
    averages = compute_averages(scores, allow_incomplete=True)
    assert averages.missing == ("darumeru_cp_sent_ru", "darumeru_cp_para_ru")
    assert "DaruCopy-RU" not in averages.groups
    assert averages.micro_average == 0.5


def test_no_score_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no score of"):
        compute_averages({}, allow_incomplete=True)


def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(DataError, match="darumeru_parsu: not a task of Darumeru"):
        compute_averages({"darumeru_parsu": 1.0}, allow_incomplete=True)
