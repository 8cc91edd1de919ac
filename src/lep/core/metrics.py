"""Numbers that can be compared between vocabularies, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def symbols_per_token(texts: Sequence[str], *, tokens: int) -> float:
    """Unicode characters over tokens."""
    return sum(map(len, texts)) / tokens


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
