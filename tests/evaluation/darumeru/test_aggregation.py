from __future__ import annotations

import random
from statistics import fmean

import pytest
from sklearn.metrics import accuracy_score, f1_score

from lep.errors import DataError
from lep.evaluation.darumeru import task_functions as functions
from lep.evaluation.darumeru.aggregation import GROUPS, TASKS, summarize
from lep.evaluation.darumeru.documents import documents


def test_the_micro_average_is_of_17_tasks() -> None:
    scores = {name: i / 17 for i, name in enumerate(TASKS)}
    summary = summarize(scores)
    sizes = {"DaruMMLU": 3, "DaruMERA": 8, "DaruSum": 2, "DaruCopy-EN": 2, "DaruCopy-RU": 2}
    assert tuple(sizes) == GROUPS
    assert summary.micro == pytest.approx(sum(n * summary.groups[group] for group, n in sizes.items()) / 17)
    assert summary.missing == ()


def test_a_missing_task_is_an_error_unless_told_and_then_said() -> None:
    scores = dict.fromkeys(TASKS, 0.5)
    del scores["darumeru_cp_sent_ru"], scores["darumeru_cp_para_ru"]
    with pytest.raises(DataError, match=r"no score of darumeru_cp_sent_ru, darumeru_cp_para_ru: .* all 17 tasks"):
        summarize(scores)
    summary = summarize(scores, incomplete=True)
    assert summary.missing == ("darumeru_cp_sent_ru", "darumeru_cp_para_ru")
    assert "DaruCopy-RU" not in summary.groups
    assert summary.micro == 0.5
    with pytest.raises(DataError, match="no score of"):
        summarize({}, incomplete=True)


def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(DataError, match="darumeru_parsu: no task of Darumeru"):
        summarize({"darumeru_parsu": 1.0}, incomplete=True)


RESULTS = {
    "darumeru_parus": (functions.ordered, 1 / 4),
    "darumeru_rwsd": (functions.right, 1 / 2),
    "darumeru_rummlu": (functions.right, 1 / 4),
    "darumeru_mmlu_en": (functions.by_subject, 1 / 4),
    "darumeru_rucola": (functions.choice, 1 / 4),  # accuracy one half, correlation none
    "darumeru_extractive": (functions.extracted, (2 / 4 + 1 / 3) / 2),
}


@pytest.mark.parametrize("name", RESULTS)
def test_guessing_gets_what_chance_gives(name: str, data: str) -> None:
    result, expected = RESULTS[name]
    asked = list(documents(task=name, data=data)["test"])
    chance, task = random.Random(0), TASKS[name]
    found = []
    for _ in range(1000):
        items = [result(d, [(-chance.random(), False) for _ in d["choices"]])["score"] for d in asked]
        found.append(task.score(task.units(items)))
    assert fmean(found) == pytest.approx(expected, abs=0.03)


def test_guessing_three_classes_gets_what_scikit_learn_says(data: str) -> None:
    asked = list(documents(task="darumeru_rcb", data=data)["test"])
    chance = random.Random(0)
    for _ in range(20):
        items = [functions.choice(d, [(-chance.random(), False) for _ in d["choices"]])["score"] for d in asked]
        golds, answers = zip(*items, strict=True)
        expected = (accuracy_score(golds, answers) + f1_score(golds, answers, average="macro", zero_division=0)) / 2
        assert TASKS["darumeru_rcb"].score(items) == pytest.approx(expected)


def test_a_pair_of_which_one_order_was_asked_is_left_out() -> None:
    assert functions.pairs([("a", 1.0), ("a", 1.0), ("b", 1.0), ("b", 0.0), ("c", 1.0)]) == [1.0, 0.0]
    with pytest.raises(DataError, match="no pair of PARus was asked in both orders"):
        functions.pairs([("a", 1.0)])


def test_always_the_first_option_is_never_right_in_both_orders(data: str) -> None:
    asked = documents(task="darumeru_parus", data=data)["test"]
    items = [functions.ordered(d, [(0.0, True), (-1.0, False)])["score"] for d in asked]
    assert functions.both_orders(items) == 0


def test_summaries_are_compared_by_lemmas() -> None:
    document = {"target": "Кот сидел на окнах.", "variant": "paper"}
    written = ["коты сидят на окне и спят"]
    assert functions.summarized(document, written) == {"score": 1.0}  # the paper: recall
    of_scripts = functions.summarized({**document, "variant": "scripts"}, written)["score"]
    assert of_scripts == pytest.approx((2 * 4 / (6 + 4) + 2 * 3 / (5 + 3)) / 2)  # the scripts: F-measure
