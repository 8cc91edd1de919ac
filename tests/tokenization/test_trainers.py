"""Merges are byte-pair encoding's, pieces SentencePiece's, over any alphabet."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lep.core.bpe import merge
from lep.errors import DataError, TokenizerError
from lep.tokenization.trainers import MINIMUM, learn_merges, learn_unigram, letters

WORDS = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3), ("wide", 1)]


def spelt(words: list[tuple[str, int]], to: dict[str, str]) -> list[tuple[str, int]]:
    return [("".join(map(to.__getitem__, word)), count) for word, count in words]


def reference(words: list[tuple[str, int]], alphabet: list[str], count: int) -> list[tuple[str, str]]:
    """Algorithm 1 of arXiv 1508.07909, as written; of equals, the pair of the units that were there first."""
    order = {unit: place for place, unit in enumerate(sorted(alphabet))}
    found: list[tuple[str, str]] = []
    split = [(list(word), n) for word, n in words]
    while len(found) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for units, n in split:
            for pair in pairwise(units):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], order[pair[0]], order[pair[1]]), default=None)
        if best is None or pairs[best] < MINIMUM:
            break
        found.append(best)
        order.setdefault("".join(best), len(order))
        split = [(merge(units, {best: (0, "".join(best))}), n) for units, n in split]
    return found


def test_letters_are_different_and_no_text() -> None:
    found = letters(200_000)
    assert len(set(found)) == 200_000 and all(len(letter) == 1 and not letter.isspace() for letter in found)
    assert "".join(found[:7000]).encode().decode() == "".join(found[:7000])
    with pytest.raises(TokenizerError, match="2000000 units to learn from"):
        letters(2_000_000)


@pytest.mark.parametrize("count", [3, 8, 100])
def test_merges_are_those_of_the_algorithm(count) -> None:
    alphabet = letters(10)
    to = dict(zip("deilnorstw", alphabet, strict=True))
    words = spelt(WORDS, to)
    expected = reference(words, alphabet, count)
    assert learn_merges(words, alphabet=alphabet, count=count) == expected
    back = {letter: character for character, letter in to.items()}
    assert ["".join(back[unit] for unit in part) for part in expected[0]] == ["e", "s"]


@given(words=st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(1, 3000), max_size=12))
@settings(max_examples=40, deadline=None)
def test_merges_of_any_words_are_those_of_the_algorithm(words) -> None:
    """Without doubled letters: how overlapping pairs (`aaa`) are counted is left open by the algorithm."""
    once = {word: n for word, n in words.items() if len(set(word)) == len(word)}
    alphabet = letters(6)
    told = spelt(list(once.items()), dict(zip("abcdef", alphabet, strict=True)))
    assert learn_merges(told, alphabet=alphabet, count=30) == reference(told, alphabet, 30)


def test_what_occurs_once_is_no_merge_and_no_words_yield_none() -> None:
    alphabet = letters(3)
    assert learn_merges([("".join(alphabet), 1)], alphabet=alphabet, count=5) == []
    assert learn_merges([], alphabet=alphabet, count=5) == []


def test_unigram_pieces_are_so_many_and_hold_every_letter_and_the_frequent_words() -> None:
    alphabet = letters(10)
    to = dict(zip("deilnorstw", alphabet, strict=True))
    words = spelt([(word, 100 * count) for word, count in WORDS], to)
    pieces = learn_unigram(words, size=14)
    texts = [piece for piece, _ in pieces]
    assert len(set(texts)) == len(texts) == 14 and set(alphabet) <= set(texts)
    assert [score for _, score in pieces] == sorted((score for _, score in pieces), reverse=True)
    assert all(score < 0 for _, score in pieces)
    assert spelt([("newest", 1)], to)[0][0] in texts, "a frequent word is a candidate, though no other contains it"
    assert learn_unigram(words, size=14) == pieces, "the same in every run"


def test_more_pieces_than_the_words_yield_are_an_error() -> None:
    alphabet = letters(3)
    with pytest.raises(DataError, match="does not yield 500 Unigram pieces"):
        learn_unigram([("".join(alphabet), 9), (alphabet[0], 9)], size=500)
