"""Train a new BPE or Unigram vocabulary from counted words, in place of the base's.

It keeps the base's normalizer, pre-tokenizer, decoder and special tokens, so text is split into words and decoded as
before; only the tokens are new. Digits are never merged, and what has no token is spelled in bytes, as in the paper.

Source: arXiv 2412.21140; docs/mathematics.md#new-vocabularies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lep.core.token_bytes import build_byte_alphabet, decode_byte_level, encode_byte_level
from lep.core.vocabulary import TokenKind
from lep.io.sentencepiece_file import TokenizerJson
from lep.io.tokenizer_file import TokenizerFile
from lep.io.tokenizer_json import replace_model
from lep.tokenization.merge_continuation import CHARACTER_COVERAGE, has_digit
from lep.tokenization.trainers import build_alphabet, train_bpe, train_unigram
from lep.tokenization.word_counts import count_characters

FALLBACK_PENALTY = 10.0
"""Log-probability below that of the rarest piece, for bytes and ASCII characters that were not learned."""

UNREACHABLE_SCORE = -1e4
"""Score of a byte-fallback token: Unigram must not match one where a text contains its name, `<0x41>`."""


@dataclass(frozen=True)
class FixedTokens:
    """The tokens of a new vocabulary that are not learned: the base's special tokens and an alphabet."""

    leading: list[str]
    """Special tokens before the first ordinary token."""
    alphabet: list[str]
    """Bytes and, in a SentencePiece vocabulary, characters, as they are stored."""
    trailing: list[str]
    """Special tokens after it."""

    @property
    def size(self) -> int:
        """Return the number of these tokens."""
        return len(self.leading) + len(self.alphabet) + len(self.trailing)

    def assign_ids(self, learned: Sequence[str]) -> dict[str, int]:
        """Return the id of every token: leading, alphabet, learned, trailing."""
        return {text: id_ for id_, text in enumerate([*self.leading, *self.alphabet, *learned, *self.trailing])}


def build_bpe_fixed_tokens(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> FixedTokens:
    """Return the fixed tokens of a new BPE vocabulary."""
    leading, trailing = _split_special_tokens(base)
    if base.scheme == "byte_level":
        return FixedTokens(leading, _list_byte_tokens(base), trailing)
    characters = _select_covered_characters(base, words)
    alphabet = [*_list_byte_tokens(base), *_list_ascii_characters(base, characters), *characters]
    return FixedTokens(leading, alphabet, trailing)


def train_bpe_merges(
    base: TokenizerFile, words: Iterable[tuple[str, int]], fixed: FixedTokens, *, max_merges: int
) -> list[tuple]:
    """Learn the merges of a new BPE vocabulary.

    Args:
        base: the tokenizer whose added tokens are left out of the words.
        words: words with counts.
        fixed: fixed tokens; merges start from its single characters.
        max_merges: maximum number of merges.

    Returns:
        Merges in order, as pairs of stored strings.
    """
    characters = [text for text in fixed.alphabet if len(text) == 1]
    alphabet = build_alphabet(len(characters))
    character_of = dict(zip(alphabet, characters, strict=True))
    letter_of = {ord(character): letter for letter, character in character_of.items()}
    merges = train_bpe(_split_into_letter_runs(base, words, letter_of), alphabet=alphabet, num_merges=max_merges)
    return [tuple("".join(map(character_of.__getitem__, part)) for part in pair) for pair in merges]


def replace_with_bpe(base: TokenizerFile, fixed: FixedTokens, merges: Sequence[tuple]) -> TokenizerFile:
    """Replace the model of the base by a new BPE model.

    Args:
        base: the tokenizer to take everything else from.
        fixed: fixed tokens.
        merges: learned merges, as pairs of stored strings.

    Returns:
        The new tokenizer.
    """
    fallback = base.scheme == "sentencepiece" and bool(_list_byte_tokens(base))
    model: TokenizerJson = {"type": "BPE", "dropout": None, "unk_token": base.unk_token}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": fallback}
    model |= {"byte_fallback": fallback, "ignore_merges": False}
    vocab = fixed.assign_ids(["".join(merge) for merge in merges])
    return _replace_model(base, model | {"vocab": vocab, "merges": [list(merge) for merge in merges]}, vocab)


def build_unigram_fixed_tokens(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> tuple[FixedTokens, list[str]]:
    """Return the fixed tokens of a new Unigram vocabulary, and the characters that its pieces are made of.

    Args:
        base: the tokenizer whose special tokens and bytes are kept.
        words: words with counts.

    Returns:
        The fixed tokens, without these characters, and the characters.
    """
    leading, trailing = _split_special_tokens(base)
    characters = _select_covered_characters(base, _decode_words(base, words))
    if base.scheme == "sentencepiece":
        alphabet = [*_list_byte_tokens(base), *_list_ascii_characters(base, characters)]
    else:
        learned = {encode_byte_level(character.encode()) for character in characters}
        alphabet = [text for text in _list_byte_tokens(base) if text not in learned]
    return FixedTokens(leading, alphabet, trailing), characters


def train_unigram_pieces(
    base: TokenizerFile, words: Iterable[tuple[str, int]], characters: Sequence[str], *, size: int
) -> dict[str, float]:
    """Learn the pieces of a new Unigram vocabulary.

    Args:
        base: the tokenizer whose added tokens are left out of the words.
        words: words with counts.
        characters: characters that pieces are made of; others separate words.
        size: number of pieces.

    Returns:
        Pieces as the base would store them, with their log-probabilities.
    """
    alphabet = build_alphabet(len(characters))
    character_of = dict(zip(alphabet, characters, strict=True))
    letter_of = {ord(character): letter for letter, character in character_of.items()}
    runs = list(_split_into_letter_runs(base, _decode_words(base, words), letter_of))
    pieces = train_unigram(runs, size=size)
    texts = (("".join(map(character_of.__getitem__, piece)), score) for piece, score in pieces)
    if base.scheme == "sentencepiece":
        return dict(texts)
    return {encode_byte_level(text.encode()): score for text, score in texts}


def replace_with_unigram(base: TokenizerFile, fixed: FixedTokens, pieces: Mapping[str, float]) -> TokenizerFile:
    """Replace the model of the base by a new Unigram model.

    Args:
        base: the tokenizer to take everything else from.
        fixed: fixed tokens.
        pieces: learned pieces with their log-probabilities.

    Returns:
        The new tokenizer.
    """
    ids = fixed.assign_ids(list(pieces))
    fallback_score = min(pieces.values()) - FALLBACK_PENALTY
    byte_scores = {} if base.scheme == "byte_level" else dict.fromkeys(_list_byte_tokens(base), UNREACHABLE_SCORE)
    scores = dict.fromkeys(fixed.alphabet, fallback_score) | byte_scores | dict(pieces)
    vocab = [[text, scores.get(text, 0.0)] for text in ids]
    unk_token = base.unk_token
    if base.scheme == "byte_level":  # Unigram raises an error on a byte without a token, unless there is an unk_id.
        unk_token = next(iter(base.added_tokens), None) if len(_list_byte_tokens(base)) < 256 else None
    unk_id = None if unk_token is None else ids[unk_token]
    model = {"type": "Unigram", "unk_id": unk_id, "vocab": vocab, "byte_fallback": bool(byte_scores)}
    return _replace_model(base, model, ids)


def _replace_model(base: TokenizerFile, model: TokenizerJson, ids: Mapping[str, int]) -> TokenizerFile:
    added_token_ids = {text: ids[text] for text in base.added_tokens}
    return TokenizerFile(
        base.path, replace_model(base.tokenizer_json, model, added_token_ids=added_token_ids), base.scheme
    )


def _split_special_tokens(base: TokenizerFile) -> tuple[list[str], list[str]]:
    """Return special and added tokens before the first ordinary token, and those after it, in the base's order."""
    kinds, tokens = base.vocabulary.kinds, base.vocabulary.tokens
    first = next(id_ for id_, kind in enumerate(kinds) if kind in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK))
    special = [(id_, tokens[id_].decode()) for id_, kind in enumerate(kinds) if kind is TokenKind.SPECIAL]
    return [text for id_, text in special if id_ < first], [text for id_, text in special if id_ >= first]


def _list_byte_tokens(base: TokenizerFile) -> list[str]:
    """Return the bytes that the base has tokens for, as it stores them; others could not be initialized."""
    names = build_byte_alphabet() if base.scheme == "byte_level" else (f"<0x{byte:02X}>" for byte in range(256))
    ordinary = base.stored_tokens - base.added_tokens.keys()
    return [text for text in names if text in ordinary]


def _list_ascii_characters(base: TokenizerFile, characters: Sequence[str]) -> list[str]:
    """Return printable ASCII characters that the text hardly has, so that names, code and English need no bytes.

    All of them where the base has byte tokens to initialize them from: Unigram reads a byte's name, `<0x41>`, as that
    byte unless each of its characters has a piece.
    """
    printable = {chr(code) for code in range(0x21, 0x7F)}
    available = printable if _list_byte_tokens(base) else printable & base.stored_tokens
    return sorted(available - set(characters) - base.added_tokens.keys())


def _decode_words(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield words as text, where a byte-level base stores bytes."""
    if base.scheme == "sentencepiece":
        yield from words
        return
    for word, count in words:
        yield decode_byte_level(word).decode(), count


def _select_covered_characters(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> list[str]:
    """Return the most frequent characters, together `CHARACTER_COVERAGE` of the text, without added tokens."""
    counts = count_characters(words)
    characters, uncovered = [], CHARACTER_COVERAGE * counts.total()
    for character, count in counts.most_common():
        if uncovered <= 0:
            break
        if character not in base.added_tokens:
            characters.append(character)
        uncovered -= count
    return characters


def _split_into_letter_runs(
    base: TokenizerFile, words: Iterable[tuple[str, int]], letter_of: Mapping[int, str]
) -> Iterator[tuple[str, int]]:
    """Yield words as letters, split at added tokens and at what has no letter; words with digits at every character."""
    added = re.compile("|".join(map(re.escape, sorted(base.added_tokens, key=len, reverse=True))) or r"\Z")
    for word, count in words:
        separator = " " if has_digit(word) else ""
        letters = " ".join(separator.join([letter_of.get(ord(c), " ") for c in part]) for part in added.split(word))
        yield from ((run, count) for run in letters.split(" ") if run)
