"""Extend a BPE tokenizer by continuing its own merges.

New merges are appended after the old ones. BPE applies merges in order, so it first reaches the base's segmentation and
then merges on: old ids stay, and expanding a new token gives back the base's ids.

They are learnt on text that the base has already segmented. A SentencePiece base also gets the characters of the
language that it can only spell in bytes.

Source: METHOD §4; arXiv 2512.03989. Why it is exact: docs/mathematics.md, "Continued merges".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lep.core.vocabulary import Kind
from lep.errors import TokenizerError
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.trainers import learn_merges, letters
from lep.tokenization.word_counts import character_counts

SURPLUS = 1.1
"""Merges learnt for each one wanted: some are dropped (see `_keep`)."""

COVERAGE = 0.9995
"""Share of the text's characters that have a piece of their own, if need be a new one (SentencePiece's default)."""


@dataclass(frozen=True)
class Addition:
    """A new token: how the base would store it, the two tokens that merge into it, and the base ids it expands to.

    A character that the base spells in bytes has no parts.
    """

    text: str
    parts: tuple[str, str] | None
    expansion: tuple[int, ...]


@dataclass(frozen=True)
class Additions:
    """New tokens in order (any first part of them is an extension too), and what could not be kept, by reason."""

    tokens: list[Addition]
    dropped: Counter[str]


def continue_merges(base: TokenizerFile, words: Iterable[tuple[str, int]], *, limit: int) -> Additions:
    """The best `limit` tokens to add, or as many as the words yield.

    Args:
        base: a BPE tokenizer.
        words: as the base stores them, with counts (`lep.tokenization.word_counts`).
        limit: how many at the most.

    Raises:
        TokenizerError: the base has no merges.
    """
    check_merges(base)
    characters = _missing_characters(base, words)[:limit]
    start = extended(base, characters)
    alphabet = letters(len(start.vocabulary))
    wanted = limit - len(characters)
    count = int(wanted * SURPLUS) + 8
    while True:
        learnt = learn_merges(_spelt(start, words, alphabet), alphabet=alphabet, count=count)
        kept, dropped = _keep(base, start, learnt, alphabet=alphabet, limit=wanted)
        if len(kept) == wanted or len(learnt) < count:
            return Additions([*characters, *kept], dropped)
        count *= 2


def extended(base: TokenizerFile, additions: Sequence[Addition]) -> TokenizerFile:
    """The base with tokens and merges appended, in the form in which it stores them.

    Added tokens are listed in the model's vocabulary as well: loaders renumber those that are not.
    """
    first, state = len(base.vocabulary), dict(base.state)
    model = state["model"] = dict(base.state["model"])
    listed = {item["content"]: item["id"] for item in state.get("added_tokens", [])}
    new = {addition.text: first + i for i, addition in enumerate(additions)}
    model["vocab"] = listed | model["vocab"] | new
    as_strings = bool(model["merges"]) and isinstance(model["merges"][0], str)
    pairs = [addition.parts for addition in additions if addition.parts]
    model["merges"] = [*model["merges"], *(f"{a} {b}" if as_strings else [a, b] for a, b in pairs)]
    return TokenizerFile(base.path, state, base.scheme)


def check_merges(base: TokenizerFile) -> None:
    """`TokenizerError` when there are no merges to continue."""
    kind = base.state["model"].get("type", "BPE")
    if kind != "BPE" or not base.state["model"].get("merges"):
        raise TokenizerError(
            f"{base.path}: a {kind} tokenizer without merges cannot be continued or cut; give kind=bpe or kind=unigram"
        )


def has_digit(word: str) -> bool:
    """Whether a stored word holds a digit: numbers teach nothing, so digits stay apart, as in the paper."""
    return any("0" <= character <= "9" for character in word)


def _missing_characters(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> list[Addition]:
    """Characters that a SentencePiece base spells in bytes, the most frequent first, until `COVERAGE` is reached."""
    if base.scheme == "byte_level":
        return []
    counts = character_counts(words)
    vocab, found = base.state["model"]["vocab"], []
    missing = Counter({character: n for character, n in counts.items() if character not in vocab})
    left, allowed = missing.total(), (1 - COVERAGE) * counts.total()
    for character, count in missing.most_common():
        if left <= allowed:
            break
        expansion = tuple(piece.id for piece in base.tokenizer.model.tokenize(character))
        if len(expansion) > 1:
            found.append(Addition(character, None, expansion))
        left -= count
    return found


def _spelt(base: TokenizerFile, words: Iterable[tuple[str, int]], alphabet: list[str]) -> Iterator[tuple[str, int]]:
    """Words as letters, one for each token; cut where SentencePiece has only a byte, which nothing merges with."""
    tokenize = base.tokenizer.model.tokenize
    apart = {id_ for id_, kind in enumerate(base.vocabulary.kinds) if kind in (Kind.BYTE, Kind.SPECIAL)}
    for word, count in words:
        if has_digit(word):
            continue
        ids = [piece.id for piece in tokenize(word)]
        while ids:
            length = next((at for at, id_ in enumerate(ids) if id_ in apart), len(ids))
            if length > 1:
                yield "".join([alphabet[id_] for id_ in ids[:length]]), count
            ids = ids[length + 1 :]


def _keep(
    base: TokenizerFile, start: TokenizerFile, learnt: Sequence[tuple[str, str]], *, alphabet: list[str], limit: int
) -> tuple[list[Addition], Counter[str]]:
    """The merges that make a token which nothing else makes.

    One is dropped when its token is spelt like another (one id cannot have two expansions), when a part of it was
    dropped, or when the base segments the token's own bytes otherwise.
    """
    unit_of = {letter: id_ for id_, letter in enumerate(alphabet)}
    text_of = {alphabet[id_]: text for text, id_ in start.state["model"]["vocab"].items()}
    taken = set(start.state["model"]["vocab"])
    kept: list[Addition] = []
    dropped: Counter[str] = Counter()
    for left, right in learnt:
        if len(kept) == limit:
            break
        if left not in text_of or right not in text_of:
            dropped["a part of it was dropped"] += 1
            continue
        text = text_of[left] + text_of[right]
        if text in taken:
            dropped["spelt like another token"] += 1
        elif [piece.id for piece in start.tokenizer.model.tokenize(text)] != [unit_of[unit] for unit in left + right]:
            dropped["the base segments it otherwise"] += 1
        else:
            text_of[left + right] = text
            taken.add(text)
            expansion = tuple(piece.id for piece in base.tokenizer.model.tokenize(text))
            kept.append(Addition(text, (text_of[left], text_of[right]), expansion))
    return kept, dropped
