"""Check the guarantees of a new tokenizer: on every token, on held-out text, and on random Unicode text."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lep.core.vocabulary import TokenKind, Vocabulary
from lep.io.tokenizer_file import TokenizerFile
from lep.results.stages import VocabularyCheck

NUM_RANDOM_TEXTS = 1000
"""Texts of random characters that are checked in addition to the held-out ones."""

_SHARED_COMPONENTS = ("normalizer", "pre_tokenizer", "decoder")
_UNICODE_RANGES = (
    (0x20, 0x7F),
    (0x09, 0x0E),
    (0xA0, 0x250),
    (0x300, 0x370),
    (0x400, 0x530),
    (0x600, 0x700),
    (0x900, 0x980),
    (0x2000, 0x2070),
    (0x2500, 0x25FF),
    (0x4E00, 0x4F00),
    (0x1F300, 0x1F650),
    (0x10000, 0x10100),
)


def check_tokenizer(
    base: TokenizerFile,
    new: TokenizerFile,
    *,
    kind: str,
    expansions: Mapping[int, tuple[int, ...]],
    texts: Sequence[str],
) -> list[VocabularyCheck]:
    """Run every check of a new tokenizer against its base.

    Args:
        base: the old tokenizer.
        new: the tokenizer made from it.
        kind: `extended`, `optimized`, `bpe` or `unigram`; determines which checks must pass.
        expansions: new id → the base ids that it expands to; empty when the vocabulary does not continue the base's.
        texts: held-out text; random text is added.

    Returns:
        One result per check, whether required or not.
    """
    texts = [*texts, *random_unicode_texts(NUM_RANDOM_TEXTS)]
    old_ids, new_ids = base.encode_batch(texts), new.encode_batch(texts)
    old_special = _special_token_ids(base.vocabulary)
    new_special = _special_token_ids(new.vocabulary)
    all_ids, extended = range(len(base.vocabulary)), kind == "extended"
    same = [base.tokenizer_json.get(key) == new.tokenizer_json.get(key) for key in _SHARED_COMPONENTS]
    carried_over = sum(token in new_special for token in old_special)
    special_ids = _count_same_ids(base, new, old_special.values())
    checks = [
        VocabularyCheck("special_tokens", carried_over, len(old_special), required=True),
        VocabularyCheck("special_ids", special_ids, len(old_special), required=extended),
        VocabularyCheck("old_ids", _count_same_ids(base, new, all_ids), len(all_ids), required=extended),
        VocabularyCheck("settings", sum(same), len(same), required=True),
        _check_round_trips(texts, _decode(base, old_ids), _decode(new, new_ids)),
        _check_reachable(base, new, required=kind != "unigram"),
    ]
    if expansions:
        checks.append(_check_base_ids(old_ids, new_ids, expansions))
    return checks


def check_sentencepiece_file(
    base: TokenizerFile, new: TokenizerFile, file: Path, texts: Sequence[str]
) -> VocabularyCheck:
    """Check that a SentencePiece file gives the same ids as the tokenizer.json that it was made from.

    Args:
        base: the old tokenizer, with a SentencePiece file of the same name in its folder.
        new: the tokenizer made from it.
        file: its SentencePiece file.
        texts: held-out text; those on which the two files of the base differ are left out.

    Returns:
        The number of texts with the same ids.
    """
    from sentencepiece import SentencePieceProcessor

    def compare_ids(tokenizer: TokenizerFile, model: Path) -> list[bool]:
        processor = SentencePieceProcessor(model_file=str(model))
        pairs = zip(tokenizer.encode_batch(texts), texts, strict=True)
        return [ids == processor.encode(text) for ids, text in pairs]

    old = compare_ids(base, base.path.parent / file.name)
    both = [o and n for o, n in zip(old, compare_ids(new, file), strict=True)]
    return VocabularyCheck("sentencepiece", sum(both), sum(old), required=True)


def random_unicode_texts(count: int) -> list[str]:
    """Return short texts of random letters, symbols, spaces and emoji of many scripts; the same in every run."""
    rng = random.Random(0)
    return ["".join(_random_character(rng) for _ in range(rng.randint(1, 24))) for _ in range(count)]


def _random_character(rng: random.Random) -> str:
    return " " if rng.random() < 0.15 else chr(rng.randrange(*rng.choice(_UNICODE_RANGES)))


def _check_round_trips(texts: Sequence[str], old_decoded: Sequence[str], new_decoded: Sequence[str]) -> VocabularyCheck:
    """Texts that the base restores are restored."""
    restored = [new == text for text, old, new in zip(texts, old_decoded, new_decoded, strict=True) if old == text]
    return VocabularyCheck("round_trips", sum(restored), len(restored), required=True)


def _check_base_ids(
    old_ids: Sequence[Sequence[int]], new_ids: Sequence[Sequence[int]], expansions: Mapping[int, tuple[int, ...]]
) -> VocabularyCheck:
    """In texts whose base tokens are all kept, expanding the new tokens gives exactly these."""
    kept = {old for expansion in expansions.values() for old in expansion}
    pairs = [(old, new) for old, new in zip(old_ids, new_ids, strict=True) if kept.issuperset(old)]
    recovered = sum([base_id for id_ in new for base_id in expansions[id_]] == list(old) for old, new in pairs)
    return VocabularyCheck("base_ids", recovered, len(pairs), required=True)


def _check_reachable(base: TokenizerFile, new: TokenizerFile, *, required: bool) -> VocabularyCheck:
    """Tokens that the base lacks are what their own bytes are tokenized into."""
    base_tokens = set(base.vocabulary.tokens)
    tokens, kinds = new.vocabulary.tokens, new.vocabulary.kinds
    ids = [id_ for id_, kind in enumerate(kinds) if kind is TokenKind.NORMAL and tokens[id_] not in base_tokens]
    reached = sum(list(new.segment(tokens[id_])) == [id_] for id_ in ids)
    return VocabularyCheck("reachable", reached, len(ids), required)


def _special_token_ids(vocabulary: Vocabulary) -> dict[bytes, int]:
    pairs = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    return {token: id_ for id_, (token, kind) in enumerate(pairs) if kind is TokenKind.SPECIAL}


def _count_same_ids(base: TokenizerFile, new: TokenizerFile, ids: Iterable[int]) -> int:
    old_entries, new_entries = (
        list(zip(file.vocabulary.tokens, file.vocabulary.kinds, strict=True)) for file in (base, new)
    )
    return sum(id_ < len(new_entries) and old_entries[id_] == new_entries[id_] for id_ in ids)


def _decode(tokenizer: TokenizerFile, ids: Sequence[Sequence[int]]) -> list[str]:
    return tokenizer.tokenizer.decode_batch([list(item) for item in ids], skip_special_tokens=False)
