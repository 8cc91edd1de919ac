"""Functions that the task files name: the result of a document, and the score of a task from the results.

A result is what lm-evaluation-harness keeps of each document under the name `score`: a number, or the values from which
the score of the task is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lep.errors import DataError
from lep.evaluation.darumeru import metrics, use_exam
from lep.evaluation.darumeru.subjects import SUBJECT_CATEGORIES
from lep.evaluation.darumeru.text_units import lemmatize, tokenize_text

Document = Mapping[str, Any]
OptionLikelihoods = Sequence[tuple[float, bool]]
"""For each option: the log-probability of its text after the prompt, and whether greedy decoding would generate it."""


def score_correct(document: Document, results: OptionLikelihoods) -> dict[str, float]:
    """Return 1 if the gold option is the most probable one, else 0."""
    return {"score": float(_most_likely_option(results) == document["gold"])}


def score_choice(document: Document, results: OptionLikelihoods) -> dict[str, tuple[int, int]]:
    """Return the gold option and the most probable one."""
    return {"score": (document["gold"], _most_likely_option(results))}


def score_pair_order(document: Document, results: OptionLikelihoods) -> dict[str, tuple[str, float]]:
    """Return the pair that this order belongs to, and whether the answer is right."""
    return {"score": (document["pair_id"], score_correct(document, results)["score"])}


def score_by_subject(document: Document, results: OptionLikelihoods) -> dict[str, tuple[str, float]]:
    """Return the subject, and whether the answer is right."""
    return {"score": (document["subject"], score_correct(document, results)["score"])}


def score_extraction(document: Document, results: OptionLikelihoods) -> dict[str, float]:
    """Compute the R-precision of the sentences by the mean log-probability of their tokens."""
    means = [value / length for (value, _), length in zip(results, document["token_counts"], strict=True)]
    return {"score": metrics.r_precision(means, document["relevant"])}


def score_answer(document: Document, results: Sequence[str]) -> dict[str, float]:
    """Average F1 and exact match of the first line that is not blank, each with the best matching gold answer."""
    answer = next(filter(None, map(str.strip, results[0].splitlines())), "")
    golds = document["answers"]
    return {"score": (metrics.word_f1(answer, golds) + metrics.exact_match(answer, golds)) / 2}


def score_exam(document: Document, results: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Return the variant of the exam, the points, and the maximum of points."""
    points = use_exam.grade_answer(
        results[0],
        document["accepted_answers"],
        answer_type=document["answer_type"],
        task_number=document["task_number"],
        max_points=document["max_points"],
    )
    return {"score": (document["exam_variant"], points, document["max_points"])}


def score_summary(document: Document, results: Sequence[str]) -> dict[str, float]:
    """Average ROUGE-1 and ROUGE-2 on lemmas: recall (variant `paper`) or F-measure (variant `scripts`)."""
    prediction, reference = lemmatize(results[0]), lemmatize(document["target"])
    column = 1 if document["variant"] == "scripts" else 0
    return {"score": fmean(metrics.rouge_n(prediction, reference, n=n)[column] for n in (1, 2))}


def score_sentence_copy(document: Document, results: Sequence[str]) -> dict[str, float]:
    """Compute min(a/b, b/a) of the token counts of the output and of the original."""
    output, original = (
        tokenize_text(text, tokenizer=document["tokenizer"]) for text in _output_and_target(document, results)
    )
    return {"score": metrics.length_ratio(len(output), len(original))}


def score_paragraph_copy(document: Document, results: Sequence[str]) -> dict[str, float]:
    """Return 1 if the longest common subsequence has 99 % of the paragraph's (scripts: the output's) tokens, else 0."""
    output, original = (
        tokenize_text(text, tokenizer=document["tokenizer"]) for text in _output_and_target(document, results)
    )
    by_output = document["variant"] == "scripts"
    return {"score": metrics.is_copied(output.ids, original.ids, normalize_by_output=by_output)}


def score_pairs(items: Sequence[tuple[str, float]]) -> list[float]:
    """Return 1 for each pair that is right in both orders of its options, else 0.

    A pair with only one order, as `--limit` can leave, is not scored.

    Args:
        items: The pair of each document, and 1 if its answer is right, else 0.

    Returns:
        A score for each pair.

    Raises:
        DataError: No pair has both orders.
    """
    orders: dict[str, list[float]] = {}
    for pair_id, correct in items:
        orders.setdefault(pair_id, []).append(correct)
    complete = [min(correct) for correct in orders.values() if len(correct) > 1]
    if not complete:
        raise DataError("no pair of PARus has both orders; raise the limit to 2 documents or more")
    return complete


def pair_accuracy(items: Sequence[tuple[str, float]]) -> float:
    """Return the fraction of pairs that are right in both orders of their options."""
    return fmean(score_pairs(items))


def accuracy_and_macro_f1(items: Sequence[tuple[int, int]]) -> float:
    """Average accuracy and macro-F1 of (gold, answer) pairs."""
    pairs = [(gold, answer) for gold, answer in items]
    return (metrics.accuracy(pairs) + metrics.macro_f1(pairs)) / 2


def accuracy_and_matthews(items: Sequence[tuple[int, int]]) -> float:
    """Average accuracy and Matthews correlation of (gold, answer) pairs; the authors of RuCoLA report both."""
    pairs = [(gold, answer) for gold, answer in items]
    return (metrics.accuracy(pairs) + metrics.matthews_corrcoef(pairs)) / 2


def category_accuracy(items: Sequence[tuple[str, float]]) -> float:
    """Average accuracy by subject, then by category, then over the four categories."""
    return metrics.mean_accuracy_by_category(items, SUBJECT_CATEGORIES)


def _most_likely_option(results: OptionLikelihoods) -> int:
    values = [value for value, _ in results]
    return values.index(max(values))


def _output_and_target(document: Document, results: Sequence[str]) -> tuple[str, str]:
    return results[0].strip(), document["target"]
