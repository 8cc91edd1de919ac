"""Byte-pair merging as a function: the same rule that tokenizers apply, on any units.

At each step the neighbours of the earliest rule merge, leftmost first, until no rule fits.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

U = TypeVar("U", bound=Hashable)


def merge(units: Sequence[U], rules: Mapping[tuple[U, U], tuple[int, U]]) -> list[U]:
    """The units after all merges.

    Args:
        units: what a word is made of.
        rules: neighbours → (rank, what they become); a lower rank is earlier.

    Source: Sennrich et al. 2016, arXiv 1508.07909, algorithm 1.
    """
    merged = list(units)
    while (at := _earliest(merged, rules)) is not None:
        merged[at : at + 2] = [rules[merged[at], merged[at + 1]][1]]
    return merged


def parts(units: Sequence[U], rules: Mapping[tuple[U, U], tuple[int, U]]) -> tuple[U, U] | None:
    """The two units whose merge is the last one of a word that becomes a single unit; none when it does not."""
    merged = list(units)
    last: tuple[U, U] | None = None
    while (at := _earliest(merged, rules)) is not None:
        last = (merged[at], merged[at + 1])
        merged[at : at + 2] = [rules[last][1]]
    return last if len(merged) == 1 else None


def _earliest(units: Sequence[U], rules: Mapping[tuple[U, U], tuple[int, U]]) -> int | None:
    """Where the earliest rule fits."""
    fitting = [(rules[pair][0], at) for at, pair in enumerate(pairwise(units)) if pair in rules]
    return min(fitting)[1] if fitting else None
