"""Train BPE merges and Unigram pieces from counted words, with the trainers of `tokenizers` and SentencePiece.

These trainers take text. Here a text consists of *letters*: one private-use character for each symbol of the caller,
which may be a byte, a character, or a token of another vocabulary.
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

MergePair = tuple[str, str]

MAX_CANDIDATES, MAX_CANDIDATE_WORDS, MAX_CANDIDATE_LENGTH = 1_000_000, 300_000, 16
"""Maximum number of Unigram seed pieces, of the words that they are taken from, and of the letters in a piece."""

MIN_FREQUENCY = 2
"""Minimum occurrences of a merge or seed piece."""

_SENTENCEPIECE_OPTIONS = {
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
"""SentencePiece's options for text that is already split into words; the rest are its defaults, as in the paper."""

_WORDS_PER_LINE = 1000
_LETTER_RANGES = (range(0xE000, 0xF900), range(0xF0000, 0x110000), range(0x40000, 0xE0000))


def build_alphabet(size: int) -> list[str]:
    """Return this many different letters: private-use characters, then code points that text does not contain.

    Args:
        size: number of letters.

    Returns:
        The letters.

    Raises:
        TokenizerError: there are fewer code points to use.
    """
    letters = [chr(code) for code in islice(chain(*_LETTER_RANGES), size)]
    if len(letters) < size:
        raise TokenizerError(f"{size} symbols to train on; at most {len(letters)} are supported")
    return letters


def train_bpe(words: Iterable[tuple[str, int]], *, alphabet: list[str], num_merges: int) -> list[MergePair]:
    """Learn byte-pair merges from counted words.

    Args:
        words: words of letters, with counts.
        alphabet: all letters that occur.
        num_merges: maximum number of merges.

    Returns:
        The merges in order, as pairs of strings of letters.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + num_merges,
        min_frequency=MIN_FREQUENCY,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.train_from_iterator(_repeat_words(words), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in merges]  # type: ignore


def train_unigram(words: Iterable[tuple[str, int]], *, size: int) -> list[tuple[str, float]]:
    """Learn a Unigram vocabulary from counted words.

    SentencePiece learns it from seed pieces that are found here. Its own search counts each distinct word once, so a
    word is no seed unless other words contain it, however frequent it is (docs/log.md).

    Args:
        words: words of letters, with counts; iterated twice.
        size: number of pieces; every letter that occurs is one of them.

    Returns:
        Pieces as strings of letters with their log-probabilities, the most probable first.

    Raises:
        DataError: the words do not yield this many pieces.
    """
    from sentencepiece import SentencePieceTrainer
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = io.BytesIO()
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as seeds:
        seeds.writelines(f"{piece}\t{count}\n" for piece, count in _find_candidates(words))
        seeds.flush()
        try:
            SentencePieceTrainer.Train(
                sentence_iterator=(f"{word}\t{count}" for word, count in words),
                model_writer=model,
                vocab_size=size + 1,
                seed_sentencepieces_file=seeds.name,
                **_SENTENCEPIECE_OPTIONS,
            )
        except RuntimeError as error:
            raise DataError(f"the text does not yield {size} Unigram pieces: {error}") from None
    message = proto.ModelProto.FromString(model.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    return [(piece.piece, piece.score) for piece in message.pieces if piece.type == message.SentencePiece.NORMAL]


def _find_candidates(words: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return substrings of the most frequent words, those first that cover the most text."""
    counts: Counter[str] = Counter()
    for word, count in nlargest(MAX_CANDIDATE_WORDS, words, key=itemgetter(1)):
        for begin in range(len(word)):
            for end in range(begin + 2, min(begin + MAX_CANDIDATE_LENGTH, len(word)) + 1):
                counts[word[begin:end]] += count
    frequent = ((piece, count) for piece, count in counts.items() if count >= MIN_FREQUENCY)
    return nlargest(MAX_CANDIDATES, frequent, key=lambda item: item[1] * len(item[0]))


def _repeat_words(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Yield each word as often as it occurs, in lines of bounded length."""
    for word, count in words:
        text = word + " "
        full_lines, remainder = divmod(count, _WORDS_PER_LINE)
        for _ in range(full_lines):
            yield text * _WORDS_PER_LINE
        if remainder:
            yield text * remainder
