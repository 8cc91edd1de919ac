"""Metrics are those of SQuAD, scikit-learn, rouge_score and lm-evaluation-harness."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lep.evaluation.darumeru import metrics
from lep.evaluation.darumeru.subjects import SUBJECT_CATEGORIES

no_deadline = settings(deadline=None)  # the reference libraries are imported in the first example
labels = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)
classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)
words = st.lists(st.sampled_from("кот дом лес снег".split()), max_size=12)


@pytest.mark.parametrize(
    ("answer", "golds", "f1", "exact"),
    [
        ("в Чехии.", ["Чехии"], 2 / 3, 0),
        ("«Чехии»!", ["чехии"], 1, 1),
        ("Анна", ["Анна Петровна", "Анна"], 1, 1),
        ("Анна Ивановна", ["Анна Петровна", "Анна"], 2 / 3, 0),
        ("the Volga", ["a Volga"], 1, 1),
        ("Дон Дон", ["Дон"], 2 / 3, 0),
        ("", ["Дон"], 0, 0),
        ("«»", ["—"], 1, 1),  # nothing is left of either
    ],
)
def test_squad(answer: str, golds: list[str], f1: float, exact: float) -> None:
    assert metrics.word_f1(answer, golds) == pytest.approx(f1)
    assert metrics.exact_match(answer, golds) == exact


@no_deadline
@given(
    st.lists(st.sampled_from("the cat, a dog! An owl sat".split()), max_size=6).map(" ".join),
    st.lists(st.sampled_from("cat the dog. owl an sat".split()), min_size=1, max_size=6).map(" ".join),
)
def test_squad_equals_the_harness_for_english(harness, answer: str, gold: str) -> None:
    from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer

    if expected := normalize_answer(answer):  # it cannot score empty answers
        assert metrics.exact_match(answer, [gold]) == (expected == normalize_answer(gold))
        assert metrics.word_f1(answer, [gold]) == pytest.approx(f1_abstractive([answer], [gold]))


@no_deadline
@given(
    st.text("кот, «Дом» — № $5", max_size=12),
    st.text("дом «кот» – № $5", max_size=12),
)
def test_squad_equals_the_harness_for_other_languages(harness, answer: str, gold: str) -> None:
    from lm_eval.tasks.tydiqa.utils import f1_score, normalize_answer

    assert metrics.normalize_answer(answer) == normalize_answer(answer, "ru").split()
    if metrics.normalize_answer(answer):
        assert metrics.word_f1(answer, [gold]) == pytest.approx(f1_score(answer, gold, "ru"))


def test_classification_by_hand() -> None:
    pairs = [(0, 0), (0, 0), (1, 0), (1, 1), (2, 1)]
    assert metrics.accuracy(pairs) == 3 / 5
    assert metrics.macro_f1(pairs) == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)


def test_matthews_by_hand() -> None:
    pairs = [(1, 1)] * 6 + [(0, 0)] * 3 + [(0, 1)] * 1 + [(1, 0)] * 2
    assert metrics.matthews_corrcoef(pairs) == pytest.approx((6 * 3 - 1 * 2) / (7 * 8 * 4 * 5) ** 0.5)
    assert metrics.matthews_corrcoef([(1, 1), (0, 1)]) == 0


@no_deadline
@given(classes, labels)
def test_classification_equals_scikit_learn(pairs: list[tuple[int, int]], binary: list[tuple[int, int]]) -> None:
    golds, answers = zip(*pairs, strict=True)
    assert metrics.accuracy(pairs) == pytest.approx(accuracy_score(golds, answers))
    assert metrics.macro_f1(pairs) == pytest.approx(f1_score(golds, answers, average="macro", zero_division=0))
    if len(set(binary)) > 1:  # else scikit-learn warns
        golds, answers = zip(*binary, strict=True)
        assert metrics.matthews_corrcoef(binary) == pytest.approx(matthews_corrcoef(golds, answers))


def test_rouge_by_hand() -> None:
    reference, prediction = "кот сидеть на окно".split(), "кот сидеть кот на стол и спать".split()
    assert metrics.rouge_n(prediction, reference, n=1) == pytest.approx((3 / 4, 2 * 3 / (7 + 4)))
    assert metrics.rouge_n(prediction, reference, n=2) == pytest.approx((1 / 3, 2 * 1 / (6 + 3)))
    assert metrics.rouge_n([], reference, n=1) == metrics.rouge_n(["кот"], ["кот"], n=2) == (0, 0)


@no_deadline
@given(words, words)
def test_rouge_equals_rouge_score(prediction: list[str], reference: list[str]) -> None:
    class WhitespaceTokenizer:
        def tokenize(self, text: str) -> list[str]:
            return text.split()

    scorer = RougeScorer(["rouge1", "rouge2"], tokenizer=WhitespaceTokenizer())
    scores = scorer.score(" ".join(reference), " ".join(prediction))
    for n in (1, 2):
        expected = scores[f"rouge{n}"]
        assert metrics.rouge_n(prediction, reference, n=n) == pytest.approx((expected.recall, expected.fmeasure))


def test_r_precision_by_hand() -> None:
    scores = [-1.0, -3.0, -0.5, -2.0]
    assert metrics.r_precision(scores, [2]) == 1
    assert metrics.r_precision(scores, [0, 1]) == 1 / 2
    assert metrics.r_precision(scores, [1, 3]) == 0
    assert metrics.r_precision([0.0, 0.0, 0.0], [0]) == 1  # the earlier one of equals
    assert metrics.r_precision([0.0, 0.0, 0.0], [2]) == 0


def test_the_copy_of_a_sentence_by_hand() -> None:
    assert metrics.length_ratio(8, 10) == metrics.length_ratio(10, 8) == 0.8
    assert metrics.length_ratio(0, 10) == 0


def test_the_copy_of_a_paragraph_by_hand() -> None:
    original = list(range(100))
    assert metrics.is_copied(original, original) == 1
    assert metrics.is_copied(original[:99], original) == 1  # 99 of 100
    assert metrics.is_copied(original[:98], original) == 0
    # the scripts: all of the output is right
    assert metrics.is_copied(original[:50], original, normalize_by_output=True) == 1
    # the paper: more may follow
    assert metrics.is_copied([*original, *range(200, 400)], original) == 1
    assert metrics.is_copied([*original, 200, 201], original, normalize_by_output=True) == 0
    assert metrics.is_copied([], original) == metrics.is_copied([], original, normalize_by_output=True) == 0


@no_deadline
@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_longest_common_subsequence_is_the_longest(a: str, b: str) -> None:
    def subsequences(text: str) -> set[tuple[str, ...]]:
        return {items for n in range(len(text) + 1) for items in combinations(text, n)}

    expected = max(map(len, subsequences(a) & subsequences(b)))
    assert metrics.longest_common_subsequence_length(a, b) == expected


def test_subjects_then_categories_by_hand() -> None:
    items = [("astronomy", 1.0), ("astronomy", 0.0), ("college_physics", 1.0), ("sociology", 0.0), ("virology", 1.0)]
    assert metrics.mean_accuracy_by_category(items, SUBJECT_CATEGORIES) == pytest.approx(((0.5 + 1) / 2 + 0 + 1) / 3)


def test_subjects_are_those_of_the_harness_except_anatomy(harness) -> None:
    folder = next(iter(harness.tasks.__path__)) + "/mmlu/default"
    expected: dict[str, str] = {}
    for file in Path(folder).glob("mmlu_*.yaml"):
        task = yaml.safe_load(file.read_text(encoding="utf-8"))
        expected[task["dataset_name"]] = task["tag"].removeprefix("mmlu_").removesuffix("_tasks").replace("_", " ")
    categories = {subject: category.lower() for subject, category in SUBJECT_CATEGORIES.items()}
    assert len(categories) == 57
    assert {s for s in categories | expected if categories.get(s) != expected.get(s)} == {"anatomy"}
