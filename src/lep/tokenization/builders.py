"""The four kinds of vocabulary, each as a candidate that can be built at any size.

Source: Tikhomirov & Chernyshev 2024, arXiv 2412.21140, section on vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile
from lep.results.advice import VocabularyStatistics
from lep.tokenization.merge_continuation import VocabularyExtension, append_tokens, continue_merges
from lep.tokenization.pruning import prune_tokenizer
from lep.tokenization.token_import import import_tokens
from lep.tokenization.train_new import (
    build_bpe_fixed_tokens,
    build_unigram_fixed_tokens,
    replace_with_bpe,
    replace_with_unigram,
    train_bpe_merges,
    train_unigram_pieces,
)

WordCounts = Iterable[tuple[str, int]]
TargetSize = Callable[[int], int]
"""Number of fixed tokens → maximum number of tokens to learn."""


@dataclass(frozen=True)
class BuiltVocabulary:
    """A finished vocabulary."""

    tokenizer: TokenizerFile
    expansions: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Id → the base ids that it expands to; empty where the vocabulary does not continue the base's."""


@dataclass(frozen=True)
class VocabularyCandidate:
    """Learned tokens, before it is decided how many of them to take."""

    num_fixed: int
    """Tokens that every size contains: the base's, or special tokens, bytes and characters."""
    num_available: int
    """Learned tokens."""
    build: Callable[[int], BuiltVocabulary]
    """Build the vocabulary with this many learned tokens, the first ones."""
    statistics: VocabularyStatistics = field(default_factory=VocabularyStatistics)


def build_extended_candidate(base: TokenizerFile, words: WordCounts, target_size: TargetSize) -> VocabularyCandidate:
    """Extend the base by merges learned on text that it has segmented (`extended`).

    Args:
        base: a BPE tokenizer.
        words: words with counts (`lep.tokenization.word_counts`).
        target_size: maximum number of tokens to add.

    Returns:
        The base and its continued merges.
    """
    num_fixed = len(base.vocabulary)
    extension = continue_merges(base, words, max_tokens=target_size(num_fixed))
    return _build_continued_candidate(base, range(num_fixed), extension)


def build_import_candidate(base: TokenizerFile, source: TokenizerFile) -> VocabularyCandidate:
    """Extend the base by the tokens of another vocabulary that merges can reach (`extended`, imported)."""
    return _build_continued_candidate(base, range(len(base.vocabulary)), import_tokens(base, source))


def build_optimized_candidate(
    base: TokenizerFile, words: WordCounts, target_size: TargetSize, *, kept_tokens: int
) -> VocabularyCandidate:
    """Prune the base to the tokens that the text uses most, and extend the rest (`optimized`).

    Args:
        base: a BPE tokenizer.
        words: words with counts.
        target_size: maximum number of tokens to add.
        kept_tokens: size of the pruned base, special tokens included.

    Returns:
        The pruned base and its continued merges.
    """
    pruned = prune_tokenizer(base, words, size=kept_tokens)
    extension = continue_merges(pruned.tokenizer, words, max_tokens=target_size(kept_tokens))
    candidate = _build_continued_candidate(pruned.tokenizer, pruned.base_ids, extension)
    statistics = replace(candidate.statistics, base_tokens_used=pruned.num_used, kept_fraction=pruned.kept_fraction)
    return replace(candidate, statistics=statistics)


def build_bpe_candidate(base: TokenizerFile, words: WordCounts, target_size: TargetSize) -> VocabularyCandidate:
    """Train a new BPE vocabulary (`bpe`).

    Args:
        base: the tokenizer whose special tokens, normalizer, pre-tokenizer and decoder are kept.
        words: words with counts.
        target_size: maximum number of merges.

    Returns:
        The special tokens and the alphabet, and the learned merges.
    """
    fixed = build_bpe_fixed_tokens(base, words)
    merges = train_bpe_merges(base, words, fixed, max_merges=target_size(fixed.size))
    return VocabularyCandidate(
        fixed.size, len(merges), lambda count: BuiltVocabulary(replace_with_bpe(base, fixed, merges[:count]))
    )


def build_unigram_candidate(base: TokenizerFile, words: WordCounts, target_size: TargetSize) -> VocabularyCandidate:
    """Train a new Unigram vocabulary (`unigram`).

    Its tokens have no order, so it can be built at the trained size alone.

    Args:
        base: the tokenizer whose special tokens, normalizer, pre-tokenizer and decoder are kept.
        words: words with counts.
        target_size: number of pieces.

    Returns:
        The special tokens and bytes, and the learned pieces.

    Raises:
        DataError: the target size does not exceed the characters of the text.
    """
    fixed, characters = build_unigram_fixed_tokens(base, words)
    if (size := target_size(fixed.size)) <= len(characters):
        raise DataError(
            f"{base.path}: a Unigram vocabulary of this text has {fixed.size + len(characters)} special tokens, bytes "
            "and characters; ask for more tokens than these"
        )
    pieces = train_unigram_pieces(base, words, characters, size=size)
    return VocabularyCandidate(
        fixed.size, len(pieces), lambda _: BuiltVocabulary(replace_with_unigram(base, fixed, pieces))
    )


def _build_continued_candidate(
    start: TokenizerFile, base_ids: Iterable[int], extension: VocabularyExtension
) -> VocabularyCandidate:
    """Append an extension to a tokenizer whose ids are `base_ids` of the base."""
    old = [(id_,) for id_ in base_ids]

    def build(count: int) -> BuiltVocabulary:
        tokens = extension.tokens[:count]
        new = [tuple(old[id_][0] for id_ in token.base_ids) for token in tokens]
        return BuiltVocabulary(append_tokens(start, tokens), dict(enumerate([*old, *new])))

    statistics = VocabularyStatistics(dropped=dict(extension.dropped))
    return VocabularyCandidate(len(old), len(extension.tokens), build, statistics)
