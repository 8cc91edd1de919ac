"""Numbers that can be compared between vocabularies, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def symbols_per_token(texts: Sequence[str], *, tokens: int) -> float:
    """Unicode characters over tokens."""
    return sum(map(len, texts)) / tokens


def bytes_per_token(texts: Sequence[str], *, tokens: int) -> float:
    """UTF-8 bytes over tokens."""
    return sum(len(text.encode()) for text in texts) / tokens


def bits_per_byte(texts: Sequence[str], *, bits: float) -> float:
    """−Σ log₂ p over the UTF-8 bytes of the texts: a loss that does not depend on the vocabulary."""
    return bits / sum(len(text.encode()) for text in texts)


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers with a 95 % interval."""

    correct: int
    items: int
    accuracy: float
    low: float
    high: float


def accuracy(correct: int, items: int, *, z: float = 1.959964) -> Accuracy:
    """Accuracy with Wilson's score interval; `ValueError` for no items.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if items <= 0:
        raise ValueError("accuracy of no items")
    share = correct / items
    centre = (share + z * z / (2 * items)) / (1 + z * z / items)
    half = z / (1 + z * z / items) * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items))
    return Accuracy(correct, items, share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """The order statistics that hold the median of what was drawn from, whatever its distribution.

    The k-th smallest and the k-th largest of n values miss it with the probability 2 · P(Bin(n, 1/2) < k); k is the
    largest with which that is at most 1 − confidence.

    Raises:
        ValueError: so few values that even the smallest and the largest miss it more often: of 95 %, fewer than six.

    Source: David and Nagaraja, "Order Statistics" (2003), section 7.1.
    """
    ordered, n = sorted(values), len(values)
    missed, k = 0.0, 0
    while (missed := missed + 2 * math.comb(n, k) / 2**n) <= 1 - confidence:
        k += 1
    if k == 0:
        raise ValueError(f"{n} values have no interval of {confidence}")
    return ordered[k - 1], ordered[n - k]
