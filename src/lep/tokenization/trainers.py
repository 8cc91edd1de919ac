"""New pieces from counted words, over any alphabet, by the trainers of `tokenizers` and SentencePiece.

A trainer sees text; here a text is made of *letters*, one private-use character for each unit, and a unit is what the
caller merges: a byte, a character, or a whole token of another vocabulary.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import chain, islice
from operator import itemgetter
from tempfile import NamedTemporaryFile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lep.errors import DataError, TokenizerError

Pair = tuple[str, str]

CANDIDATES, CANDIDATE_WORDS, LONGEST = 1_000_000, 300_000, 16
"""Unigram pieces to choose from, the words in which they are sought, and their letters at the most."""

MINIMUM = 2
"""Occurrences that a merge needs: what occurs once is not worth a row."""

_UNIGRAM = {
    "model_type": "unigram",
    "input_format": "tsv",
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "split_by_unicode_script": False,
    "split_by_number": False,
    "character_coverage": 1.0,
    "max_sentence_length": 1 << 16,
    "bos_id": -1,
    "eos_id": -1,
    "minloglevel": 2,
}
"""SentencePiece's settings for words that are cut already; all others are its defaults, as in the paper."""

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
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.train_from_iterator(_lines(words), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in merges]  # type: ignore


def learn_unigram(words: Iterable[tuple[str, int]], *, size: int) -> list[tuple[str, float]]:
    """Pieces of a Unigram vocabulary, as strings of letters, with their log-probabilities, the most probable first.

    SentencePiece learns them, from candidates that are found here: its own search counts each distinct word once, so
    that a word, however frequent, is no candidate unless others contain it (docs/log.md).

    Args:
        words: letters, and how often the word occurs; read twice.
        size: how many pieces; every letter that occurs is one of them.

    Raises:
        DataError: the words do not yield so many.
    """
    from sentencepiece import SentencePieceTrainer
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = io.BytesIO()
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as seeds:
        seeds.writelines(f"{piece}\t{count}\n" for piece, count in _candidates(words))
        seeds.flush()
        try:
            SentencePieceTrainer.Train(
                sentence_iterator=(f"{word}\t{count}" for word, count in words),
                model_writer=model,
                vocab_size=size + 1,
                seed_sentencepieces_file=seeds.name,
                **_UNIGRAM,
            )
        except RuntimeError as error:
            raise DataError(f"the text does not yield {size} Unigram pieces: {error}") from None
    message = proto.ModelProto.FromString(model.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    return [(piece.piece, piece.score) for piece in message.pieces if piece.type == message.SentencePiece.NORMAL]


def _candidates(words: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Substrings of the most frequent words, those first that cover the most text."""
    counts: Counter[str] = Counter()
    for word, count in nlargest(CANDIDATE_WORDS, words, key=itemgetter(1)):
        for begin in range(len(word)):
            for end in range(begin + 2, min(begin + LONGEST, len(word)) + 1):
                counts[word[begin:end]] += count
    often = ((piece, count) for piece, count in counts.items() if count >= MINIMUM)
    return nlargest(CANDIDATES, often, key=lambda item: item[1] * len(item[0]))


def _lines(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Each word as often as it occurs, in lines of bounded length."""
    for word, count in words:
        text = word + " "
        whole, rest = divmod(count, _CHUNK)
        for _ in range(whole):
            yield text * _CHUNK
        if rest:
            yield text * rest
