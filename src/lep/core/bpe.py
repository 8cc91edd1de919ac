"""Byte-pair merging as a function: the rule of the `tokenizers` library, on symbols of any type.

At each step the adjacent pair with the lowest merge rank is merged, the leftmost one first, until no pair has a merge.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

U = TypeVar("U", bound=Hashable)


def apply_merges(symbols: Sequence[U], merges: Mapping[tuple[U, U], tuple[int, U]]) -> list[U]:
    """Return the symbols of a word after all merges.

    >>> apply_merges("abc", {("b", "c"): (0, "bc"), ("a", "b"): (1, "ab")})
    ['a', 'bc']

    Args:
        symbols: the symbols of the word.
        merges: adjacent pair → (rank, merged symbol); lower ranks are applied first.

    Returns:
        The remaining symbols.

    Source: Sennrich et al. 2016, arXiv 1508.07909, algorithm 1.
    """
    merged = list(symbols)
    while (at := _find_next_merge(merged, merges)) is not None:
        merged[at : at + 2] = [merges[merged[at], merged[at + 1]][1]]
    return merged


def find_last_merge(symbols: Sequence[U], merges: Mapping[tuple[U, U], tuple[int, U]]) -> tuple[U, U] | None:
    """Return the pair of the last merge of a word that merges into one symbol; None when it does not."""
    merged = list(symbols)
    last: tuple[U, U] | None = None
    while (at := _find_next_merge(merged, merges)) is not None:
        last = (merged[at], merged[at + 1])
        merged[at : at + 2] = [merges[last][1]]
    return last if len(merged) == 1 else None


def _find_next_merge(symbols: Sequence[U], merges: Mapping[tuple[U, U], tuple[int, U]]) -> int | None:
    """Return the position of the pair to merge next."""
    candidates = [(merges[pair][0], at) for at, pair in enumerate(pairwise(symbols)) if pair in merges]
    return min(candidates)[1] if candidates else None
