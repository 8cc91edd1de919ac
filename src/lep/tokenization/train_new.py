"""A new vocabulary in the place of the base's: BPE or Unigram, learnt from counted words.

It keeps the base's normalizer, pre-tokenizer, decoder and special tokens, and hence the base's way of turning text into
words and back; only the tokens are new. Digits stay apart, and what has no token is spelt in bytes, as in the paper.

Source: METHOD §4, `bpe` and `unigram`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lep.core.token_bytes import byte_alphabet, byte_level_bytes, byte_level_string
from lep.core.vocabulary import Kind
from lep.io.sentencepiece_file import State
from lep.io.tokenizer_file import TokenizerFile
from lep.io.tokenizer_json import with_model
from lep.tokenization.merge_continuation import COVERAGE, has_digit
from lep.tokenization.trainers import learn_merges, learn_unigram, letters
from lep.tokenization.word_counts import character_counts

LAST_RESORT = 10.0
"""How much less probable than the rarest piece a single byte or sign is that the text did not teach."""

NEVER = -1e4
"""Score of a fallback byte: Unigram must never read one where a text has its name, `<0x41>`."""


@dataclass(frozen=True)
class Frame:
    """What every new vocabulary of a base has: its special tokens, before and after the others, and an alphabet."""

    before: list[str]
    alphabet: list[str]
    """Bytes, and in a SentencePiece vocabulary the characters of the language, as they are stored."""
    after: list[str]

    @property
    def size(self) -> int:
        """Tokens that are not learnt."""
        return len(self.before) + len(self.alphabet) + len(self.after)

    def around(self, learnt: Sequence[str]) -> dict[str, int]:
        """All tokens with their ids, in order."""
        return {text: id_ for id_, text in enumerate([*self.before, *self.alphabet, *learnt, *self.after])}


def bpe_frame(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> Frame:
    """The frame of a new BPE vocabulary."""
    before, after = _special(base)
    if base.scheme == "byte_level":
        return Frame(before, _bytes(base), after)
    characters = _covered(base, words)
    return Frame(before, [*_bytes(base), *_ascii(base, characters), *characters], after)


def learn_bpe(base: TokenizerFile, words: Iterable[tuple[str, int]], frame: Frame, *, limit: int) -> list[tuple]:
    """The best merges, at most `limit`, as pairs of stored strings."""
    units = [text for text in frame.alphabet if len(text) == 1]
    alphabet = letters(len(units))
    back = dict(zip(alphabet, units, strict=True))
    to = {ord(unit): letter for unit, letter in zip(units, alphabet, strict=True)}
    learnt = learn_merges(_runs(base, words, to), alphabet=alphabet, count=limit)
    return [tuple("".join(map(back.__getitem__, part)) for part in pair) for pair in learnt]


def with_bpe(base: TokenizerFile, frame: Frame, merges: Sequence[tuple]) -> TokenizerFile:
    """The base with a new BPE model."""
    fallback = base.scheme == "sentencepiece" and bool(_bytes(base))
    model: State = {"type": "BPE", "dropout": None, "unk_token": base.unknown}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": fallback}
    model |= {"byte_fallback": fallback, "ignore_merges": False}
    vocab = frame.around(["".join(merge) for merge in merges])
    return _replaced(base, model | {"vocab": vocab, "merges": [list(merge) for merge in merges]}, vocab)


def unigram_frame(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> tuple[Frame, list[str]]:
    """The frame of a new Unigram vocabulary (bytes alone), and the characters that it learns its pieces of."""
    before, after = _special(base)
    characters = _covered(base, _texts(base, words))
    if base.scheme == "sentencepiece":
        return Frame(before, [*_bytes(base), *_ascii(base, characters)], after), characters
    learnt = {byte_level_string(character.encode()) for character in characters}
    return Frame(before, [text for text in _bytes(base) if text not in learnt], after), characters


def learn_pieces(
    base: TokenizerFile, words: Iterable[tuple[str, int]], characters: Sequence[str], *, size: int
) -> dict[str, float]:
    """Unigram pieces as the base would store them, with their log-probabilities."""
    alphabet = letters(len(characters))
    back = dict(zip(alphabet, characters, strict=True))
    to = {ord(unit): letter for unit, letter in zip(characters, alphabet, strict=True)}
    runs = list(_runs(base, _texts(base, words), to))
    learnt = learn_unigram(runs, size=size)
    texts = (("".join(map(back.__getitem__, piece)), score) for piece, score in learnt)
    if base.scheme == "sentencepiece":
        return dict(texts)
    return {byte_level_string(text.encode()): score for text, score in texts}


def with_unigram(base: TokenizerFile, frame: Frame, pieces: Mapping[str, float]) -> TokenizerFile:
    """The base with a new Unigram model."""
    ids = frame.around(list(pieces))
    last_resort = min(pieces.values()) - LAST_RESORT
    never = {} if base.scheme == "byte_level" else dict.fromkeys(_bytes(base), NEVER)
    scores = dict.fromkeys(frame.alphabet, last_resort) | never | dict(pieces)
    vocab = [[text, scores.get(text, 0.0)] for text in ids]
    unknown = base.unknown
    if base.scheme == "byte_level":  # knows all bytes, or stops at one it lacks unless a token stands for it
        unknown = next(iter(base.added), None) if len(_bytes(base)) < 256 else None
    unk_id = None if unknown is None else ids[unknown]
    model = {"type": "Unigram", "unk_id": unk_id, "vocab": vocab, "byte_fallback": bool(never)}
    return _replaced(base, model, ids)


def _replaced(base: TokenizerFile, model: State, ids: Mapping[str, int]) -> TokenizerFile:
    state = with_model(base.state, model, ids={text: ids[text] for text in base.added})
    return TokenizerFile(base.path, state, base.scheme)


def _special(base: TokenizerFile) -> tuple[list[str], list[str]]:
    """Special and added tokens that stand before the first other token, and those after it, in the base's order."""
    kinds, tokens = base.vocabulary.kinds, base.vocabulary.tokens
    first = next(id_ for id_, kind in enumerate(kinds) if kind in (Kind.NORMAL, Kind.BYTE))
    special = [(id_, tokens[id_].decode()) for id_, kind in enumerate(kinds) if kind is Kind.SPECIAL]
    return [text for id_, text in special if id_ < first], [text for id_, text in special if id_ >= first]


def _bytes(base: TokenizerFile) -> list[str]:
    """The bytes that the base has tokens for, as it stores them; one that it lacks would have no row to begin with."""
    names = byte_alphabet() if base.scheme == "byte_level" else (f"<0x{byte:02X}>" for byte in range(256))
    there = base.stored_pieces - base.added.keys()
    return [text for text in names if text in there]


def _ascii(base: TokenizerFile, characters: Sequence[str]) -> list[str]:
    """Printable ASCII that the text hardly has: names, code and English need no bytes.

    All of it where bytes can begin its rows: Unigram reads a byte's name, `<0x41>`, as that byte unless each of its
    signs has a piece.
    """
    printable = {chr(code) for code in range(0x21, 0x7F)}
    there = printable if _bytes(base) else printable & base.stored_pieces
    return sorted(there - set(characters) - base.added.keys())


def _texts(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Words as characters, where the base stores bytes."""
    if base.scheme == "sentencepiece":
        yield from words
        return
    for word, count in words:
        yield byte_level_bytes(word).decode(), count


def _covered(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> list[str]:
    """The most frequent characters, together `COVERAGE` of the text; not those that are added tokens already."""
    counts = character_counts(words)
    found, left = [], COVERAGE * counts.total()
    for character, count in counts.most_common():
        if left <= 0:
            break
        if character not in base.added:
            found.append(character)
        left -= count
    return found


def _runs(
    base: TokenizerFile, words: Iterable[tuple[str, int]], letter_of: Mapping[int, str]
) -> Iterator[tuple[str, int]]:
    """Words in letters, cut at added tokens and at what has no letter; one with digits teaches its characters alone."""
    added = re.compile("|".join(map(re.escape, sorted(base.added, key=len, reverse=True))) or r"\Z")
    for word, count in words:
        apart = " " if has_digit(word) else ""
        spelt = " ".join(apart.join([letter_of.get(ord(c), " ") for c in part]) for part in added.split(word))
        yield from ((run, count) for run in spelt.split(" ") if run)
