"""What the task files name: the result of a document, and the score of a task from the results of its documents.

A result is what the harness keeps of each document under the name `score`: a number, or the values from which the
score of the task is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lep.errors import DataError
from lep.evaluation.darumeru import metrics
from lep.evaluation.darumeru import use_exam as exam
from lep.evaluation.darumeru.subjects import CATEGORIES
from lep.evaluation.darumeru.text_units import lemmas, tokens

Document = Mapping[str, Any]
Likelihoods = Sequence[tuple[float, bool]]
"""Of each option: the log-probability of its text after the prompt, and whether greedy decoding would write it."""


def right(document: Document, results: Likelihoods) -> dict[str, float]:
    """1 if the gold option is the most probable one, else 0."""
    return {"score": float(_answer(results) == document["gold"])}


def choice(document: Document, results: Likelihoods) -> dict[str, tuple[int, int]]:
    """The gold option and the most probable one."""
    return {"score": (document["gold"], _answer(results))}


def ordered(document: Document, results: Likelihoods) -> dict[str, tuple[str, float]]:
    """Of which pair this order is, and whether it was answered rightly."""
    return {"score": (document["pair"], right(document, results)["score"])}


def by_subject(document: Document, results: Likelihoods) -> dict[str, tuple[str, float]]:
    """The subject, and whether the question was answered rightly."""
    return {"score": (document["subject"], right(document, results)["score"])}


def extracted(document: Document, results: Likelihoods) -> dict[str, float]:
    """R-precision of the sentences by the mean log-probability of their tokens."""
    means = [value / length for (value, _), length in zip(results, document["lengths"], strict=True)]
    return {"score": metrics.r_precision(means, document["relevant"])}


def answered(document: Document, results: Sequence[str]) -> dict[str, float]:
    """The mean of F1 and exact match of the first line that is not blank, each for the gold answer that suits best."""
    answer = next(filter(None, map(str.strip, results[0].splitlines())), "")
    golds = document["answers"]
    return {"score": (metrics.word_f1(answer, golds) + metrics.exact_match(answer, golds)) / 2}


def graded(document: Document, results: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """The variant of the exam, the points, and the most points possible."""
    reached = exam.points(
        results[0], document["accepted"], kind=document["kind"], task=document["number"], most=document["most"]
    )
    return {"score": (document["exam"], reached, document["most"])}


def summarized(document: Document, results: Sequence[str]) -> dict[str, float]:
    """The mean of ROUGE-1 and ROUGE-2 on lemmas: their recall (paper), or their F-measure (scripts)."""
    words, gold = lemmas(results[0]), lemmas(document["target"])
    column = 1 if document["variant"] == "scripts" else 0
    return {"score": fmean(metrics.rouge_n(words, gold, n=n)[column] for n in (1, 2))}


def sentence_copied(document: Document, results: Sequence[str]) -> dict[str, float]:
    """min(a/b, b/a) of the numbers of tokens of the output and of the original."""
    output, original = (tokens(text, tokenizer=document["tokenizer"]) for text in _texts(document, results))
    return {"score": metrics.length_agreement(len(output), len(original))}


def paragraph_copied(document: Document, results: Sequence[str]) -> dict[str, float]:
    """1 if 99 % of the paragraph (scripts: of the output) are in the longest common subsequence of tokens, else 0."""
    output, original = (tokens(text, tokenizer=document["tokenizer"]) for text in _texts(document, results))
    of_output = document["variant"] == "scripts"
    return {"score": metrics.is_copied(output.ids, original.ids, of_output=of_output)}


def pairs(items: Sequence[tuple[str, float]]) -> list[float]:
    """1 for each pair that was right in both orders, else 0. A pair of which only one order was asked is left out."""
    orders: dict[str, list[float]] = {}
    for pair, is_right in items:
        orders.setdefault(pair, []).append(is_right)
    whole = [min(rights) for rights in orders.values() if len(rights) > 1]
    if not whole:
        raise DataError("no pair of PARus was asked in both orders; raise the limit to 2 documents or more")
    return whole


def both_orders(items: Sequence[tuple[str, float]]) -> float:
    """The share of pairs that were right in both orders of their options."""
    return fmean(pairs(items))


def accuracy_and_macro_f1(items: Sequence[tuple[int, int]]) -> float:
    """The mean of accuracy and macro-F1."""
    golds = [(gold, answer) for gold, answer in items]
    return (metrics.accuracy(golds) + metrics.macro_f1(golds)) / 2


def accuracy_and_matthews(items: Sequence[tuple[int, int]]) -> float:
    """The mean of accuracy and Matthews' correlation, as the authors of RuCoLA report both."""
    golds = [(gold, answer) for gold, answer in items]
    return (metrics.accuracy(golds) + metrics.matthews(golds)) / 2


def by_category(items: Sequence[tuple[str, float]]) -> float:
    """Accuracy by subject, then by category, then over the four categories."""
    return metrics.by_category(items, CATEGORIES)


def _answer(results: Likelihoods) -> int:
    values = [value for value, _ in results]
    return values.index(max(values))


def _texts(document: Document, results: Sequence[str]) -> tuple[str, str]:
    return results[0].strip(), document["target"]
