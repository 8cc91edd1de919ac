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
from lep.evaluation.darumeru.subjects import CATEGORIES

unhurried = settings(deadline=None)  # the libraries to compare with load at the first example
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
        ("«»", ["—"], 1, 1),  # nothing is left of either: equal
    ],
)
def test_squad(answer: str, golds: list[str], f1: float, exact: float) -> None:
    assert metrics.word_f1(answer, golds) == pytest.approx(f1)
    assert metrics.exact_match(answer, golds) == exact


@unhurried
@given(
    st.lists(st.sampled_from("the cat, a dog! An owl sat".split()), max_size=6).map(" ".join),
    st.lists(st.sampled_from("cat the dog. owl an sat".split()), min_size=1, max_size=6).map(" ".join),
)
def test_squad_as_the_harness_has_it_for_english(harness, answer: str, gold: str) -> None:
    from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer

    if theirs := normalize_answer(answer):  # of empty answers it cannot tell
        assert metrics.exact_match(answer, [gold]) == (theirs == normalize_answer(gold))
        assert metrics.word_f1(answer, [gold]) == pytest.approx(f1_abstractive([answer], [gold]))


@unhurried
@given(
    st.text("кот, «Дом» — № $5", max_size=12),
    st.text("дом «кот» – № $5", max_size=12),
)
def test_squad_as_the_harness_has_it_for_other_languages(harness, answer: str, gold: str) -> None:
    from lm_eval.tasks.tydiqa.utils import f1_score, normalize_answer

    assert metrics.normalized(answer) == normalize_answer(answer, "ru").split()
    if metrics.normalized(answer):
        assert metrics.word_f1(answer, [gold]) == pytest.approx(f1_score(answer, gold, "ru"))


def test_classes_by_hand() -> None:
    pairs = [(0, 0), (0, 0), (1, 0), (1, 1), (2, 1)]
    assert metrics.accuracy(pairs) == 3 / 5
    assert metrics.macro_f1(pairs) == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)


def test_matthews_by_hand() -> None:
    pairs = [(1, 1)] * 6 + [(0, 0)] * 3 + [(0, 1)] * 1 + [(1, 0)] * 2
    assert metrics.matthews(pairs) == pytest.approx((6 * 3 - 1 * 2) / (7 * 8 * 4 * 5) ** 0.5)
    assert metrics.matthews([(1, 1), (0, 1)]) == 0


@unhurried
@given(classes, labels)
def test_classes_as_scikit_learn_has_them(many: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    golds, answers = zip(*many, strict=True)
    assert metrics.accuracy(many) == pytest.approx(accuracy_score(golds, answers))
    assert metrics.macro_f1(many) == pytest.approx(f1_score(golds, answers, average="macro", zero_division=0))
    if len(set(two)) > 1:  # below it warns
        golds, answers = zip(*two, strict=True)
        assert metrics.matthews(two) == pytest.approx(matthews_corrcoef(golds, answers))


def test_rouge_by_hand() -> None:
    gold, written = "кот сидеть на окно".split(), "кот сидеть кот на стол и спать".split()
    assert metrics.rouge_n(written, gold, n=1) == pytest.approx((3 / 4, 2 * 3 / (7 + 4)))
    assert metrics.rouge_n(written, gold, n=2) == pytest.approx((1 / 3, 2 * 1 / (6 + 3)))
    assert metrics.rouge_n([], gold, n=1) == metrics.rouge_n(["кот"], ["кот"], n=2) == (0, 0)


@unhurried
@given(words, words)
def test_rouge_as_rouge_score_has_it(written: list[str], gold: list[str]) -> None:
    class Spaces:
        def tokenize(self, text: str) -> list[str]:
            return text.split()

    scorer = RougeScorer(["rouge1", "rouge2"], tokenizer=Spaces())
    theirs = scorer.score(" ".join(gold), " ".join(written))
    for n in (1, 2):
        expected = theirs[f"rouge{n}"]
        assert metrics.rouge_n(written, gold, n=n) == pytest.approx((expected.recall, expected.fmeasure))


def test_r_precision_by_hand() -> None:
    scores = [-1.0, -3.0, -0.5, -2.0]
    assert metrics.r_precision(scores, [2]) == 1
    assert metrics.r_precision(scores, [0, 1]) == 1 / 2
    assert metrics.r_precision(scores, [1, 3]) == 0
    assert metrics.r_precision([0.0, 0.0, 0.0], [0]) == 1  # of equals the earlier
    assert metrics.r_precision([0.0, 0.0, 0.0], [2]) == 0


def test_the_copy_of_a_sentence_by_hand() -> None:
    assert metrics.length_agreement(8, 10) == metrics.length_agreement(10, 8) == 0.8
    assert metrics.length_agreement(0, 10) == 0


def test_the_copy_of_a_paragraph_by_hand() -> None:
    original = list(range(100))
    assert metrics.is_copied(original, original) == 1
    assert metrics.is_copied(original[:99], original) == 1  # 99 of 100
    assert metrics.is_copied(original[:98], original) == 0
    assert metrics.is_copied(original[:50], original, of_output=True) == 1  # the scripts: all of the output is right
    assert metrics.is_copied([*original, *range(200, 400)], original) == 1  # the paper: whatever follows
    assert metrics.is_copied([*original, 200, 201], original, of_output=True) == 0
    assert metrics.is_copied([], original) == metrics.is_copied([], original, of_output=True) == 0


@unhurried
@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_longest_common_subsequence_is_the_longest(a: str, b: str) -> None:
    def subsequences(text: str) -> set[tuple[str, ...]]:
        return {pick for n in range(len(text) + 1) for pick in combinations(text, n)}

    expected = max(map(len, subsequences(a) & subsequences(b)))
    assert metrics.longest_common_subsequence(a, b) == expected


def test_subjects_then_categories_by_hand() -> None:
    items = [("astronomy", 1.0), ("astronomy", 0.0), ("college_physics", 1.0), ("sociology", 0.0), ("virology", 1.0)]
    assert metrics.by_category(items, CATEGORIES) == pytest.approx(((0.5 + 1) / 2 + 0 + 1) / 3)


def test_the_subjects_are_those_of_mmlu_in_the_harness_but_for_anatomy(harness) -> None:
    folder = next(iter(harness.tasks.__path__)) + "/mmlu/default"
    theirs: dict[str, str] = {}
    for file in Path(folder).glob("mmlu_*.yaml"):
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
        theirs[read["dataset_name"]] = read["tag"].removeprefix("mmlu_").removesuffix("_tasks").replace("_", " ")
    ours = {subject: category.lower() for subject, category in CATEGORIES.items()}
    assert len(ours) == 57
    assert {s for s in ours | theirs if ours.get(s) != theirs.get(s)} == {"anatomy"}
