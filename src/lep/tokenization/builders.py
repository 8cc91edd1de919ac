"""The four kinds of vocabulary, each as a draft that can be built at any size.

Source: METHOD §4; arXiv 2412.21140, section on vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.merge_continuation import Additions, continue_merges, extended
from lep.tokenization.pruning import cut
from lep.tokenization.token_import import continue_with_pieces
from lep.tokenization.train_new import bpe_frame, learn_bpe, learn_pieces, unigram_frame, with_bpe, with_unigram

Words = Iterable[tuple[str, int]]
Wanted = Callable[[int], int]
"""How many tokens to learn, at the most, when so many others are there in any case."""


@dataclass(frozen=True)
class Built:
    """A finished vocabulary, and the base ids that each of its ids expands to (continued kinds only)."""

    tokenizer: TokenizerFile
    expansions: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What was learnt, before it is decided how much of it is taken."""

    fixed: int
    """Tokens that are there in any case."""
    available: int
    """Tokens that were learnt."""
    build: Callable[[int], Built]
    """The vocabulary with the first so many of them."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is worth telling."""


def extended_draft(base: TokenizerFile, words: Words, wanted: Wanted) -> Draft:
    """The base, and merges learnt on its own segmentation."""
    fixed = len(base.vocabulary)
    additions = continue_merges(base, words, limit=wanted(fixed))
    return _continued(base, range(fixed), additions)


def pieces_draft(base: TokenizerFile, source: TokenizerFile) -> Draft:
    """The base, and the pieces of another vocabulary that merges can reach."""
    return _continued(base, range(len(base.vocabulary)), continue_with_pieces(base, source))


def optimized_draft(base: TokenizerFile, words: Words, wanted: Wanted, *, keep: int) -> Draft:
    """What the text uses of the base, continued."""
    small = cut(base, words, size=keep)
    additions = continue_merges(small.tokenizer, words, limit=wanted(keep))
    facts = {"base_tokens_used": small.used, "share_of_base_tokens_kept": small.share}
    return _continued(small.tokenizer, small.base_ids, additions, facts=facts)


def bpe_draft(base: TokenizerFile, words: Words, wanted: Wanted) -> Draft:
    """A new BPE vocabulary."""
    frame = bpe_frame(base, words)
    merges = learn_bpe(base, words, frame, limit=wanted(frame.size))
    return Draft(frame.size, len(merges), lambda count: Built(with_bpe(base, frame, merges[:count])))


def unigram_draft(base: TokenizerFile, words: Words, wanted: Wanted) -> Draft:
    """A new Unigram vocabulary; it has no order among its tokens, so only the whole of it can be built."""
    frame, characters = unigram_frame(base, words)
    if (size := wanted(frame.size)) <= len(characters):
        raise DataError(
            f"{base.path}: a Unigram vocabulary of this text has {frame.size + len(characters)} special tokens, bytes "
            "and characters; ask for more tokens than these"
        )
    pieces = learn_pieces(base, words, characters, size=size)
    return Draft(frame.size, len(pieces), lambda _: Built(with_unigram(base, frame, pieces)))


def _continued(
    start: TokenizerFile, base_ids: Iterable[int], additions: Additions, *, facts: Mapping[str, Any] | None = None
) -> Draft:
    old = [(id_,) for id_ in base_ids]

    def build(count: int) -> Built:
        taken = additions.tokens[:count]
        new = [tuple(old[id_][0] for id_ in addition.expansion) for addition in taken]
        return Built(extended(start, taken), dict(enumerate([*old, *new])))

    return Draft(len(old), len(additions.tokens), build, {"dropped": dict(additions.dropped), **(facts or {})})
