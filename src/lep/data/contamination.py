"""Find texts of an evaluation in training data by word n-grams.

A text is found where half of its 13-grams are in one conversation; one or two can be a common phrase. A text of fewer
words is found where it is a whole message. N-grams that several texts of the evaluation share, as its instructions, do
not count, nor do case, punctuation and spaces.

Source: 13-grams, Brown et al. 2020 (arXiv 2005.14165), appendix C.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lep.data.conversations import Conversation

NGRAM_SIZE = 13
"""In words."""
MIN_MATCHED_FRACTION = 0.5
"""Fraction of a text's n-grams that one conversation must contain."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Contamination:
    """A text of an evaluation in the training data."""

    evaluation: str
    text_number: int
    """Which of the evaluation's texts, counted from 1."""
    place: str
    """Of the conversation."""
    matched_fraction: float
    """Fraction of the text's n-grams that the conversation contains."""


def find_contamination(
    conversations: Sequence[Conversation], evaluations: Mapping[str, Sequence[str]]
) -> list[Contamination]:
    """Find the texts of evaluations that conversations contain.

    Args:
        conversations: To train on.
        evaluations: Texts by name of the evaluation.

    Returns:
        One entry for each conversation and text in it.
    """
    num_ngrams: dict[tuple[str, int], int] = {}
    texts_by_ngram: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for name, texts in evaluations.items():
        ngrams_by_text = [set(_hash_ngrams(text)) for text in texts]
        frequencies = Counter(ngram for ngrams in ngrams_by_text for ngram in ngrams)
        for number, ngrams in enumerate(ngrams_by_text, start=1):
            unique = {ngram for ngram in ngrams if frequencies[ngram] == 1} or ngrams
            num_ngrams[name, number] = len(unique)
            for ngram in unique:
                texts_by_ngram[ngram].append((name, number))
    contaminations: list[Contamination] = []
    for conversation in conversations:
        ngrams = {ngram for message in conversation.messages for ngram in _hash_ngrams(message.content)}
        matches = Counter(text for ngram in ngrams & texts_by_ngram.keys() for text in texts_by_ngram[ngram])
        fractions = {text: count / num_ngrams[text] for text, count in matches.items()}
        contaminations += [
            Contamination(*text, conversation.place, fraction)
            for text, fraction in fractions.items()
            if fraction >= MIN_MATCHED_FRACTION
        ]
    return contaminations


def _hash_ngrams(text: str) -> Iterator[int]:
    """Yield a hash of each n-gram; a text of fewer words is one n-gram of its own kind."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if not words:
        return
    if len(words) < NGRAM_SIZE:
        yield hash(("whole", *words))
    for start in range(len(words) - NGRAM_SIZE + 1):
        yield hash(tuple(words[start : start + NGRAM_SIZE]))
