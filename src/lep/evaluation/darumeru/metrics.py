"""The arithmetic of the benchmark's scores: plain values in, numbers from 0 to 1 out.

The paper: arXiv 2412.21140. The scripts: what its authors published beside it, which differs in two places (ROUGE, and
the copy of a paragraph).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean

COPIED = 0.99
"""The share of a paragraph from which on it counts as copied (the paper)."""


def normalized(answer: str) -> list[str]:
    """The words that SQuAD compares: lower case, without punctuation and English articles.

    Source: Rajpurkar et al., arXiv 1606.05250, and its evaluation script; punctuation is also Unicode's, as for other
    languages in MLQA (Lewis et al., arXiv 1910.07475), since Russian quotes and dashes are meant too.
    """
    kept = "".join(c for c in answer.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals one of the gold answers after normalization, else 0. Source: SQuAD."""
    return float(any(normalized(answer) == normalized(gold) for gold in golds))


def word_f1(answer: str, golds: Sequence[str]) -> float:
    """F1 of the words, counted with multiplicity, against the gold answer that suits the answer best. Source: SQuAD."""
    return max(_overlap_f1(normalized(answer), normalized(gold)) for gold in golds)


def accuracy(pairs: Sequence[tuple[int, int]]) -> float:
    """The share of (gold, answer) pairs that agree."""
    return fmean(gold == answer for gold, answer in pairs)


def macro_f1(pairs: Sequence[tuple[int, int]]) -> float:
    """The plain mean over classes of F1 = 2 TP / (2 TP + FP + FN); classes are those of golds and answers."""
    classes = {label for pair in pairs for label in pair}
    golds, answers = Counter(gold for gold, _ in pairs), Counter(answer for _, answer in pairs)
    right = Counter(gold for gold, answer in pairs if gold == answer)
    return fmean(2 * right[label] / (golds[label] + answers[label]) for label in classes)


def matthews(pairs: Sequence[tuple[int, int]]) -> float:
    """Matthews' correlation of binary labels, (TP TN - FP FN) / sqrt of the four margins; 0 where a margin is empty.

    Source: Matthews, Biochimica et Biophysica Acta 405 (1975); the zero is scikit-learn's convention.
    """
    cells = Counter(pairs)
    tp, tn, fp, fn = cells[1, 1], cells[0, 0], cells[0, 1], cells[1, 0]
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / margins**0.5 if margins else 0.0


def rouge_n(words: Sequence[str], gold: Sequence[str], *, n: int) -> tuple[float, float]:
    """ROUGE-N of a summary: its recall, and its F-measure; n-grams count with multiplicity.

    The paper reports the recall; the scripts take the F-measure.

    Args:
        words: of the summary that was written; lemmas, in this benchmark.
        gold: of the reference.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
    """
    written, wanted = _ngrams(words, n=n), _ngrams(gold, n=n)
    common = (written & wanted).total()
    if not common:
        return 0.0, 0.0
    return common / wanted.total(), 2 * common / (wanted.total() + written.total())


def r_precision(scores: Sequence[float], relevant: Sequence[int]) -> float:
    """The share of the R best-scored sentences that are among the R relevant ones; of equals the earlier goes first.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", section 8.4.
    """
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[: len(relevant)]
    return len(set(best) & set(relevant)) / len(relevant)


def length_agreement(output: int, original: int) -> float:
    """min(a/b, b/a) of the numbers of tokens of the output and of the original sentence; 0 for an empty output."""
    return min(output, original) / max(output, original)


def is_copied(output: Sequence[Hashable], original: Sequence[Hashable], *, of_output: bool = False) -> float:
    """1 if the longest common subsequence has at least 99 % of the paragraph's tokens, else 0.

    Args:
        of_output: divide by the length of the output instead, as the scripts of the paper's time did: a copy that stops
            early then passes.
    """
    whole = len(output if of_output else original)
    return float(whole > 0 and longest_common_subsequence(output, original) >= COPIED * whole)


def longest_common_subsequence(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The length of the longest sequence that both contain in order, gaps allowed.

    Source: Hyyrö, "Bit-Parallel LCS-length Computation Revisited" (2004): one integer holds a row of the table.
    """
    places: dict[Hashable, int] = {}
    for i, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        matching = row & places.get(item, 0)
        row = ((row + matching) | (row - matching)) & full
    return len(a) - row.bit_count()


def by_category(items: Sequence[tuple[str, float]], categories: Mapping[str, str]) -> float:
    """Accuracy by subject, then the mean over the subjects of a category, then over the categories.

    Args:
        items: the subject of each question, and 1 if it was answered rightly.
        categories: of each subject.
    """
    subjects: dict[str, list[float]] = {}
    for subject, right in items:
        subjects.setdefault(subject, []).append(right)
    groups: dict[str, list[float]] = {}
    for subject, rights in subjects.items():
        groups.setdefault(categories[subject], []).append(fmean(rights))
    return fmean(fmean(means) for means in groups.values())


def _overlap_f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold))


def _ngrams(words: Sequence[str], *, n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))
