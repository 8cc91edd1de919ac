"""Guessing gets the score of chance, and groups of documents are scored as one."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
from sklearn.metrics import accuracy_score, f1_score

from lep.errors import DataError
from lep.evaluation.darumeru import task_functions
from lep.evaluation.darumeru.aggregation import TASKS
from lep.evaluation.darumeru.documents import load_documents

CHANCE_SCORES = {
    "darumeru_parus": (task_functions.score_pair_order, 1 / 4),
    "darumeru_rwsd": (task_functions.score_correct, 1 / 2),
    "darumeru_rummlu": (task_functions.score_correct, 1 / 4),
    "darumeru_mmlu_en": (task_functions.score_by_subject, 1 / 4),
    "darumeru_rucola": (task_functions.score_choice, 1 / 4),  # accuracy one half, correlation zero
    "darumeru_extractive": (task_functions.score_extraction, (2 / 4 + 1 / 3) / 2),
}


def guess(document: dict, rng: random.Random) -> list[tuple[float, bool]]:
    return [(-rng.random(), False) for _ in document["choices"]]


@pytest.mark.parametrize("name", CHANCE_SCORES)
def test_guessing_gets_the_score_of_chance(name: str, data: str) -> None:
    score_document, expected = CHANCE_SCORES[name]
    documents = list(load_documents(task=name, data=data)["test"])
    rng, task = random.Random(0), TASKS[name]
    scores = []
    for _ in range(1000):
        results = [score_document(document, guess(document, rng))["score"] for document in documents]
        scores.append(task.aggregate(task.group_units(results)))
    assert fmean(scores) == pytest.approx(expected, abs=0.03)


def test_guessing_three_classes_gets_the_score_of_scikit_learn(data: str) -> None:
    documents = list(load_documents(task="darumeru_rcb", data=data)["test"])
    rng = random.Random(0)
    for _ in range(20):
        results = [task_functions.score_choice(document, guess(document, rng))["score"] for document in documents]
        golds, answers = zip(*results, strict=True)
        expected = (accuracy_score(golds, answers) + f1_score(golds, answers, average="macro", zero_division=0)) / 2
        assert TASKS["darumeru_rcb"].aggregate(results) == pytest.approx(expected)


def test_a_pair_with_one_order_is_not_scored() -> None:
    assert task_functions.score_pairs([("a", 1.0), ("a", 1.0), ("b", 1.0), ("b", 0.0), ("c", 1.0)]) == [1.0, 0.0]
    with pytest.raises(DataError, match="no pair of PARus has both orders"):
        task_functions.score_pairs([("a", 1.0)])


def test_always_the_first_option_is_never_right_in_both_orders(data: str) -> None:
    documents = load_documents(task="darumeru_parus", data=data)["test"]
    results = [
        task_functions.score_pair_order(document, [(0.0, True), (-1.0, False)])["score"] for document in documents
    ]
    assert task_functions.pair_accuracy(results) == 0


def test_the_first_of_equally_probable_options_is_the_answer() -> None:
    assert task_functions.score_choice({"gold": 1}, [(-1.0, True), (-1.0, False)]) == {"score": (1, 0)}


def test_summaries_are_compared_by_lemmas() -> None:
    document = {"target": "Кот сидел на окнах.", "variant": "paper"}
    summary = ["коты сидят на окне и спят"]
    assert task_functions.score_summary(document, summary) == {"score": 1.0}  # the paper: recall
    score = task_functions.score_summary({**document, "variant": "scripts"}, summary)["score"]
    assert score == pytest.approx((2 * 4 / (6 + 4) + 2 * 3 / (5 + 3)) / 2)  # the scripts: F-measure
