"""Extend a BPE tokenizer by continuing its own merges.

New merges are appended to the old ones. BPE applies merges in order, so it first reaches the base's segmentation and
then merges further: old ids stay, and expanding a new token gives back the base's ids.

Merges are learned on text that the base has segmented. A SentencePiece base also gets the characters of the language
that it can only spell in bytes.

Source: arXiv 2512.03989. Why it is exact: docs/mathematics.md#continued-merges-and-why-they-are-exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lep.core.vocabulary import TokenKind
from lep.errors import TokenizerError
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.trainers import build_alphabet, train_bpe
from lep.tokenization.word_counts import count_characters

MERGE_OVERSAMPLING = 1.1
"""Merges learned for each one needed: some are dropped (see `_drop_unusable_merges`)."""

CHARACTER_COVERAGE = 0.9995
"""Fraction of the text's characters that get a token of their own where they have none (SentencePiece's default)."""


@dataclass(frozen=True)
class NewToken:
    """A token to append to a base vocabulary."""

    text: str
    """As the base stores it."""
    merge: tuple[str, str] | None
    """The two tokens that merge into it; `None` for a character that the base spells in bytes."""
    base_ids: tuple[int, ...]
    """The base ids that it expands to."""


@dataclass(frozen=True)
class VocabularyExtension:
    """New tokens in order; any prefix of them is an extension, too."""

    tokens: list[NewToken]
    dropped: Counter[str]
    """Number of tokens that could not be kept, by reason."""


def continue_merges(base: TokenizerFile, words: Iterable[tuple[str, int]], *, max_tokens: int) -> VocabularyExtension:
    """Learn the best tokens to append to a base vocabulary.

    Args:
        base: a BPE tokenizer.
        words: words as the base stores them, with counts (`lep.tokenization.word_counts`).
        max_tokens: number of tokens; fewer when the words do not yield as many.

    Returns:
        The new tokens, first missing characters, then merges in the order of their learning.

    Raises:
        TokenizerError: the base has no merges.
    """
    check_merges(base)
    characters = _find_missing_characters(base, words)[:max_tokens]
    start = append_tokens(base, characters)
    alphabet = build_alphabet(len(start.vocabulary))
    max_merges = max_tokens - len(characters)
    num_merges = int(max_merges * MERGE_OVERSAMPLING) + 8
    while True:
        merges = train_bpe(_encode_words(start, words, alphabet), alphabet=alphabet, num_merges=num_merges)
        kept, dropped = _drop_unusable_merges(base, start, merges, alphabet=alphabet, max_tokens=max_merges)
        if len(kept) == max_merges or len(merges) < num_merges:
            return VocabularyExtension([*characters, *kept], dropped)
        num_merges *= 2


def append_tokens(base: TokenizerFile, new_tokens: Sequence[NewToken]) -> TokenizerFile:
    """Return the base with tokens and merges appended, in the form in which it stores them.

    Added tokens are also listed in the model's vocabulary: loaders renumber those that are not.
    """
    first, model = len(base.vocabulary), dict(base.tokenizer_json["model"])
    new = {token.text: first + i for i, token in enumerate(new_tokens)}
    model["vocab"] = base.added_tokens | model["vocab"] | new
    as_strings = bool(model["merges"]) and isinstance(model["merges"][0], str)
    pairs = [token.merge for token in new_tokens if token.merge]
    model["merges"] = [*model["merges"], *(f"{a} {b}" if as_strings else [a, b] for a, b in pairs)]
    return TokenizerFile(base.path, base.tokenizer_json | {"model": model}, base.scheme)


def check_merges(base: TokenizerFile) -> None:
    """Raise `TokenizerError` if the base has no merges to continue."""
    kind = base.tokenizer_json["model"].get("type", "BPE")
    if kind != "BPE" or not base.tokenizer_json["model"].get("merges"):
        raise TokenizerError(
            f"{base.path}: a {kind} tokenizer without merges cannot be extended or pruned; give kind=bpe or "
            "kind=unigram"
        )


def has_digit(word: str) -> bool:
    """Return whether a stored word contains an ASCII digit; digits are never merged, as in the paper."""
    return any("0" <= character <= "9" for character in word)


def _find_missing_characters(base: TokenizerFile, words: Iterable[tuple[str, int]]) -> list[NewToken]:
    """Return characters that a SentencePiece base spells in bytes, by frequency, up to `CHARACTER_COVERAGE`."""
    if base.scheme == "byte_level":
        return []
    counts = count_characters(words)
    vocab = base.tokenizer_json["model"]["vocab"]
    characters = []
    missing = Counter({character: n for character, n in counts.items() if character not in vocab})
    uncovered, allowed = missing.total(), (1 - CHARACTER_COVERAGE) * counts.total()
    for character, count in missing.most_common():
        if uncovered <= allowed:
            break
        base_ids = tuple(token.id for token in base.tokenizer.model.tokenize(character))
        if len(base_ids) > 1:
            characters.append(NewToken(character, None, base_ids))
        uncovered -= count
    return characters


def _encode_words(
    base: TokenizerFile, words: Iterable[tuple[str, int]], alphabet: list[str]
) -> Iterator[tuple[str, int]]:
    """Yield words as letters, one per token, split at byte-fallback and special tokens, which are never merged."""
    tokenize = base.tokenizer.model.tokenize
    separators = {
        id_ for id_, kind in enumerate(base.vocabulary.kinds) if kind in (TokenKind.BYTE_FALLBACK, TokenKind.SPECIAL)
    }
    for word, count in words:
        if has_digit(word):
            continue
        ids = [token.id for token in tokenize(word)]
        while ids:
            length = next((at for at, id_ in enumerate(ids) if id_ in separators), len(ids))
            if length > 1:
                yield "".join([alphabet[id_] for id_ in ids[:length]]), count
            ids = ids[length + 1 :]


def _drop_unusable_merges(
    base: TokenizerFile,
    start: TokenizerFile,
    merges: Sequence[tuple[str, str]],
    *,
    alphabet: list[str],
    max_tokens: int,
) -> tuple[list[NewToken], Counter[str]]:
    """Select the merges whose token no other merge makes.

    A merge is dropped when its token is spelled like another (one id cannot have two expansions), when one of its parts
    was dropped, or when the base segments the token's own bytes differently.
    """
    id_of = {letter: id_ for id_, letter in enumerate(alphabet)}
    text_of = {alphabet[id_]: text for text, id_ in start.tokenizer_json["model"]["vocab"].items()}
    spellings = set(start.tokenizer_json["model"]["vocab"])
    kept: list[NewToken] = []
    dropped: Counter[str] = Counter()
    for left, right in merges:
        if len(kept) == max_tokens:
            break
        if left not in text_of or right not in text_of:
            dropped["a part was dropped"] += 1
            continue
        text = text_of[left] + text_of[right]
        if text in spellings:
            dropped["spelled like another token"] += 1
        elif [token.id for token in start.tokenizer.model.tokenize(text)] != [id_of[letter] for letter in left + right]:
            dropped["the base segments it differently"] += 1
        else:
            text_of[left + right] = text
            spellings.add(text)
            base_ids = tuple(token.id for token in base.tokenizer.model.tokenize(text))
            kept.append(NewToken(text, (text_of[left], text_of[right]), base_ids))
    return kept, dropped
