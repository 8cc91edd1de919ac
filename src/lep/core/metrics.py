"""Metrics that can be compared between vocabularies, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lep.results.evaluation import Accuracy


def characters_per_token(texts: Sequence[str], *, tokens: int) -> float:
    """Return Unicode characters divided by tokens."""
    return sum(map(len, texts)) / tokens


def bytes_per_token(texts: Sequence[str], *, tokens: int) -> float:
    """Return UTF-8 bytes divided by tokens."""
    return sum(len(text.encode()) for text in texts) / tokens


def bits_per_byte(texts: Sequence[str], *, bits: float) -> float:
    """Return −Σ log₂ p divided by the UTF-8 bytes of the texts: a loss that does not depend on the vocabulary.

    See [Bits per byte](docs/mathematics.md#bits-per-byte).

    Args:
        texts: what was predicted.
        bits: −Σ log₂ p over all tokens of the texts.

    Returns:
        Bits per byte.
    """
    return bits / sum(len(text.encode()) for text in texts)


def compute_accuracy(correct: int, total: int, *, z: float = 1.959964) -> Accuracy:
    """Compute the accuracy with Wilson's score interval. See [Accuracy](docs/mathematics.md#accuracy).

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Args:
        correct: number of correct answers.
        total: number of items.
        z: normal quantile of the interval; the default is that of 95 %.

    Returns:
        The accuracy and both ends of its interval.

    Raises:
        ValueError: `total` is not positive.
    """
    if total <= 0:
        raise ValueError("accuracy of no items")
    share = correct / total
    center = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Accuracy(correct, total, share, min(share, max(0.0, center - half)), max(share, min(1.0, center + half)))


def median_confidence_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the order statistics that contain the median of the population, whatever its distribution.

    The k-th smallest and the k-th largest of n values miss it with probability 2 · P(Bin(n, 1/2) < k); k is the largest
    with which that is at most 1 − confidence. Source: David and Nagaraja, "Order Statistics" (2003), section 7.1.

    Args:
        values: the sample.
        confidence: probability that the interval contains the median.

    Returns:
        Both ends of the interval.

    Raises:
        ValueError: there are so few values that even the smallest and the largest miss the median more often: fewer
            than six for 95 %.
    """
    ordered, n = sorted(values), len(values)
    missed, k = 0.0, 0
    while (missed := missed + 2 * math.comb(n, k) / 2**n) <= 1 - confidence:
        k += 1
    if k == 0:
        raise ValueError(f"{n} values have no interval of {confidence}")
    return ordered[k - 1], ordered[n - k]
