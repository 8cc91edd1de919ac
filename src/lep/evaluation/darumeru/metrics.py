"""Metrics of the benchmark: plain values in, numbers from 0 to 1 out.

"The paper" is arXiv 2412.21140. "The scripts" are those that its authors published with it; they differ in two places
(ROUGE, and the copy of a paragraph). See docs/darumeru.md.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean

MIN_COPIED_FRACTION = 0.99
"""The fraction of a paragraph that must be copied (the paper)."""


def normalize_answer(answer: str) -> list[str]:
    """Return the words that SQuAD compares: lower case, without punctuation and English articles.

    Source: Rajpurkar et al., arXiv 1606.05250, and its evaluation script. Unicode punctuation is removed as well, as
    for other languages in MLQA (Lewis et al., arXiv 1910.07475), because of Russian quotes and dashes.
    """
    text = "".join(c for c in answer.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """Return 1 if the answer equals one of the gold answers after normalization, else 0. Source: SQuAD."""
    return float(any(normalize_answer(answer) == normalize_answer(gold) for gold in golds))


def word_f1(answer: str, golds: Sequence[str]) -> float:
    """Return the F1 of the words, with multiplicity, against the best matching gold answer. Source: SQuAD."""
    return max(_overlap_f1(normalize_answer(answer), normalize_answer(gold)) for gold in golds)


def accuracy(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the fraction of (gold, answer) pairs that agree."""
    return fmean(gold == answer for gold, answer in pairs)


def macro_f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the mean over classes of F1 = 2 TP / (2 TP + FP + FN) of (gold, answer) pairs."""
    classes = {label for pair in pairs for label in pair}
    golds, answers = Counter(gold for gold, _ in pairs), Counter(answer for _, answer in pairs)
    correct = Counter(gold for gold, answer in pairs if gold == answer)
    return fmean(2 * correct[label] / (golds[label] + answers[label]) for label in classes)


def matthews_corrcoef(pairs: Sequence[tuple[int, int]]) -> float:
    """Return Matthews' correlation of binary (gold, answer) pairs, (TP TN - FP FN) / sqrt(product of the margins).

    Source: Matthews, Biochimica et Biophysica Acta 405 (1975). It is 0 if a margin is empty, as in scikit-learn.
    """
    cells = Counter(pairs)
    tp, tn, fp, fn = cells[1, 1], cells[0, 0], cells[0, 1], cells[1, 0]
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / margins**0.5 if margins else 0.0


def rouge_n(prediction: Sequence[str], reference: Sequence[str], *, n: int) -> tuple[float, float]:
    """Return ROUGE-N of a summary: recall (the paper) and F-measure (the scripts).

    Args:
        prediction: Words of the generated summary; in this benchmark, lemmas.
        reference: Words of the reference summary.
        n: Words in an n-gram; n-grams count with multiplicity.

    Returns:
        Recall and F-measure.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
    """
    predicted, expected = _ngrams(prediction, n=n), _ngrams(reference, n=n)
    common = (predicted & expected).total()
    if not common:
        return 0.0, 0.0
    return common / expected.total(), 2 * common / (expected.total() + predicted.total())


def r_precision(scores: Sequence[float], relevant: Sequence[int]) -> float:
    """Return the fraction of the R best sentences that are relevant, where R are relevant. Ties go to the earlier one.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", section 8.4.
    """
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[: len(relevant)]
    return len(set(best) & set(relevant)) / len(relevant)


def length_ratio(output: int, original: int) -> float:
    """Return min(a/b, b/a) of the token counts of output and original sentence; 0 for an empty output."""
    return min(output, original) / max(output, original)


def is_copied(output: Sequence[Hashable], original: Sequence[Hashable], *, normalize_by_output: bool = False) -> float:
    """Return 1 if the longest common subsequence has at least 99 % of the paragraph's tokens, else 0.

    Args:
        output: Tokens that the model generated.
        original: Tokens of the paragraph.
        normalize_by_output: Divide by the length of the output instead, as the scripts did. A copy that stops early
            then passes.

    Returns:
        1 or 0; 0 for an empty denominator.
    """
    total = len(output if normalize_by_output else original)
    return float(total > 0 and longest_common_subsequence_length(output, original) >= MIN_COPIED_FRACTION * total)


def longest_common_subsequence_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the length of the longest sequence that both contain in order, gaps allowed.

    Source: Hyyrö, "Bit-Parallel LCS-length Computation Revisited" (2004): one integer holds a row of the table.

    Args:
        a: Any sequence.
        b: Another one.

    Returns:
        The length.

    Example:
        >>> longest_common_subsequence_length("abcd", "bxd")
        2
    """
    positions: dict[Hashable, int] = {}
    for i, item in enumerate(a):
        positions[item] = positions.get(item, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        matching = row & positions.get(item, 0)
        row = ((row + matching) | (row - matching)) & full
    return len(a) - row.bit_count()


def mean_accuracy_by_category(items: Sequence[tuple[str, float]], categories: Mapping[str, str]) -> float:
    """Return the accuracy by subject, averaged over the subjects of a category, then over the categories.

    Args:
        items: The subject of each question, and 1 if the answer is right, else 0.
        categories: The category of each subject.

    Returns:
        The mean over the categories.
    """
    subjects: dict[str, list[float]] = {}
    for subject, correct in items:
        subjects.setdefault(subject, []).append(correct)
    groups: dict[str, list[float]] = {}
    for subject, outcomes in subjects.items():
        groups.setdefault(categories[subject], []).append(fmean(outcomes))
    return fmean(fmean(means) for means in groups.values())


def _overlap_f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold))


def _ngrams(words: Sequence[str], *, n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))
