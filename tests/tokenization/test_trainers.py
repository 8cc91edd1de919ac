"""Merges are those of byte-pair encoding, pieces those of SentencePiece, over any alphabet."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lep.core.bpe import apply_merges
from lep.errors import DataError, TokenizerError
from lep.tokenization.trainers import (
    MAX_CANDIDATE_LENGTH,
    MIN_FREQUENCY,
    _find_candidates,
    build_alphabet,
    train_bpe,
    train_unigram,
)

WORDS = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3), ("wide", 1)]


def to_letters(words: list[tuple[str, int]], letter_of: dict[str, str]) -> list[tuple[str, int]]:
    return [("".join(map(letter_of.__getitem__, word)), count) for word, count in words]


def reference(words: list[tuple[str, int]], alphabet: list[str], count: int) -> list[tuple[str, str]]:
    """Algorithm 1 of arXiv 1508.07909, as written; on a tie, the pair of the older symbols."""
    order = {unit: place for place, unit in enumerate(sorted(alphabet))}
    merges: list[tuple[str, str]] = []
    split = [(list(word), n) for word, n in words]
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for units, n in split:
            for pair in pairwise(units):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], order[pair[0]], order[pair[1]]), default=None)
        if best is None or pairs[best] < MIN_FREQUENCY:
            break
        merges.append(best)
        order.setdefault("".join(best), len(order))
        split = [(apply_merges(units, {best: (0, "".join(best))}), n) for units, n in split]
    return merges


def test_letters_are_distinct_and_do_not_occur_in_text() -> None:
    letters = build_alphabet(200_000)
    assert len(set(letters)) == 200_000 and all(len(letter) == 1 and not letter.isspace() for letter in letters)
    assert "".join(letters[:7000]).encode().decode() == "".join(letters[:7000])
    with pytest.raises(TokenizerError, match="2000000 symbols to train on; at most"):
        build_alphabet(2_000_000)


@pytest.mark.parametrize("count", [3, 8, 100])
def test_merges_are_those_of_the_algorithm(count) -> None:
    alphabet = build_alphabet(10)
    letter_of = dict(zip("deilnorstw", alphabet, strict=True))
    words = to_letters(WORDS, letter_of)
    expected = reference(words, alphabet, count)
    assert train_bpe(words, alphabet=alphabet, num_merges=count) == expected
    character_of = {letter: character for character, letter in letter_of.items()}
    assert ["".join(character_of[unit] for unit in part) for part in expected[0]] == ["e", "s"]


@given(words=st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(1, 3000), max_size=12))
@settings(max_examples=40, deadline=None)
def test_merges_of_any_words_are_those_of_the_algorithm(words) -> None:
    """Without doubled letters: how overlapping pairs (`aaa`) are counted is left open by the algorithm."""
    once = {word: n for word, n in words.items() if len(set(word)) == len(word)}
    alphabet = build_alphabet(6)
    encoded = to_letters(list(once.items()), dict(zip("abcdef", alphabet, strict=True)))
    assert train_bpe(encoded, alphabet=alphabet, num_merges=30) == reference(encoded, alphabet, 30)


def test_a_pair_that_occurs_once_is_not_merged() -> None:
    alphabet = build_alphabet(3)
    assert train_bpe([("".join(alphabet), 1)], alphabet=alphabet, num_merges=5) == []
    assert len(train_bpe([("".join(alphabet), MIN_FREQUENCY)], alphabet=alphabet, num_merges=5)) == 2
    assert train_bpe([], alphabet=alphabet, num_merges=5) == []


def test_unigram_pieces_have_the_requested_number_every_letter_and_the_frequent_words() -> None:
    alphabet = build_alphabet(10)
    letter_of = dict(zip("deilnorstw", alphabet, strict=True))
    words = to_letters([(word, 100 * count) for word, count in WORDS], letter_of)
    pieces = train_unigram(words, size=14)
    texts = [piece for piece, _ in pieces]
    assert len(set(texts)) == len(texts) == 14 and set(alphabet) <= set(texts)
    assert [score for _, score in pieces] == sorted((score for _, score in pieces), reverse=True)
    assert all(score < 0 for _, score in pieces)
    assert to_letters([("newest", 1)], letter_of)[0][0] in texts, "frequent, though no other word contains it"
    assert train_unigram(words, size=14) == pieces, "the same in every run"


def test_seed_pieces_are_frequent_enough_and_short_enough() -> None:
    letters = "".join(build_alphabet(MAX_CANDIDATE_LENGTH + 1))
    assert _find_candidates([(letters, MIN_FREQUENCY - 1)]) == []
    pieces = dict(_find_candidates([(letters, MIN_FREQUENCY)]))
    assert set(pieces.values()) == {MIN_FREQUENCY}
    assert {len(piece) for piece in pieces} == set(range(2, MAX_CANDIDATE_LENGTH + 1))


def test_more_pieces_than_the_words_yield_are_an_error() -> None:
    alphabet = build_alphabet(3)
    with pytest.raises(DataError, match="does not yield 500 Unigram pieces"):
        train_unigram([("".join(alphabet), 9), (alphabet[0], 9)], size=500)
