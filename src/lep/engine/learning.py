"""New pieces from counted words, by the trainers of `tokenizers`, over any alphabet.

A trainer sees text; here a text is made of *letters*, one private-use character for each unit, and a unit is what the
caller merges: a byte, a character, or a whole token of another vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lep.errors import TokenizerError

Pair = tuple[str, str]

MINIMUM = 2
"""Occurrences that a merge needs: what occurs once is not worth a row."""

_CHUNK = 1000
_PLANES = (range(0xE000, 0xF900), range(0xF0000, 0x110000), range(0x40000, 0xE0000))


def letters(count: int) -> list[str]:
    """So many different letters: private-use characters, then ones that no character of text will ever be."""
    found = [chr(code) for code in islice(chain(*_PLANES), count)]
    if len(found) < count:
        raise TokenizerError(f"{count} units to learn from; letters are to be had for {len(found)}")
    return found


def learn_merges(words: Iterable[tuple[str, int]], *, alphabet: list[str], count: int) -> list[Pair]:
    """The best merges by byte-pair encoding, in order, as pairs of strings of letters; at most `count`.

    Args:
        words: letters, and how often the word occurs.
        alphabet: all letters that occur.
        count: how many merges.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + count,
        min_frequency=MINIMUM,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    merges = _train(Tokenizer(models.BPE()), words, trainer)["merges"]
    return [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in merges]  # type: ignore


def learn_unigram(words: Iterable[tuple[str, int]], *, size: int) -> list[tuple[str, float]]:
    """Pieces of a Unigram vocabulary, as strings of letters, with their log-probabilities, the most probable first.

    Args:
        words: letters, and how often the word occurs.
        size: how many pieces; every letter that occurs is one of them.
    """
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=[], show_progress=False)
    return [(piece, score) for piece, score in _train(Tokenizer(models.Unigram()), words, trainer)["vocab"]]


def _train(tokenizer: Tokenizer, words: Iterable[tuple[str, int]], trainer: object) -> dict[str, list]:
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.train_from_iterator(_lines(words), trainer)  # pyright: ignore[reportArgumentType]
    return json.loads(tokenizer.to_str())["model"]


def _lines(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Each word as often as it occurs, in lines of bounded length."""
    for word, count in words:
        text = word + " "
        whole, rest = divmod(count, _CHUNK)
        for _ in range(whole):
            yield text * _CHUNK
        if rest:
            yield text * rest
