"""Base tokenizer + text → tokenizer for the language, checked to be exact."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lep.config import RetokenizeSettings
from lep.core.metrics import characters_per_token
from lep.core.vocabulary import TokenKind
from lep.data.corpus import read_heldout_excerpts
from lep.errors import DataError, TokenizerError
from lep.io.model_writer import copy_tokenizer, write_special_token_names
from lep.io.sentencepiece_file import SENTENCEPIECE_FILE, write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.progress import log_message
from lep.results.stages import BeforeAfter, RetokenizationResult, SegmentationExample, VocabularyCheck
from lep.tokenization.builders import (
    TargetSize,
    VocabularyCandidate,
    build_bpe_candidate,
    build_extended_candidate,
    build_import_candidate,
    build_optimized_candidate,
    build_unigram_candidate,
)
from lep.tokenization.merge_continuation import check_merges
from lep.tokenization.validation import check_sentencepiece_file, check_tokenizer
from lep.tokenization.word_counts import WeightedWordCounts, count_words

PROBE_CHARACTERS = 200_000
"""Held-out characters of each language on which the tokenizer is checked."""

MAX_LEARNED_TOKENS = 300_000
"""Tokens learned before a target of characters per token decides how many of them are taken."""

NUM_EXAMPLES, EXAMPLE_CHARACTERS = 3, 200

TextsByLanguage = Mapping[str, Sequence[str]]


def run(settings: RetokenizeSettings, out: Path) -> RetokenizationResult:
    """Write the base's tokenizer files with the new tokenizer.json, and tokenizer.model for a SentencePiece base.

    Args:
        settings: settings of the stage.
        out: empty folder for the tokenizer files.

    Returns:
        Sizes, compression, checks and examples of the new vocabulary.

    Raises:
        TokenizerError: a required check fails, or the base has no merges to extend or prune.
        DataError: the text is missing, or yields too few tokens for the size.
    """
    base = read_tokenizer(settings.base)
    texts = read_heldout_excerpts(settings.corpus, settings.mixture, max_characters=PROBE_CHARACTERS)
    if settings.import_tokens_from:
        words, candidate = None, build_import_candidate(base, read_tokenizer(settings.import_tokens_from))
    else:
        if settings.kind in ("extended", "optimized"):
            check_merges(base)
        words = count_words(base, settings.corpus, mixture=settings.mixture)
        candidate = _build_candidate(base, words, settings)
    built = candidate.build(_choose_token_count(settings, candidate, texts))
    folder = settings.base if settings.base.is_dir() else settings.base.parent
    copy_tokenizer(folder, out, tokenizer_json=built.tokenizer.tokenizer_json)
    write_special_token_names(folder, out)
    new = read_tokenizer(out)
    probes = [text for documents in texts.values() for text in documents]
    checks = check_tokenizer(base, new, kind=settings.kind, expansions=built.expansions, texts=probes)
    checks += _write_and_check_sentencepiece(base, new, probes)
    if failed := [f"{check.name}: {check.passed:,} of {check.total:,}" for check in checks if check.failed]:
        raise TokenizerError(f"{base.path}: the {settings.kind} tokenizer fails required checks: {'; '.join(failed)}")
    return replace(
        _summarize_vocabulary(settings, base, new, texts),
        checks=tuple(checks),
        documents_skipped=words.skipped if words else {},
        statistics=candidate.statistics,
    )


def _build_candidate(
    base: TokenizerFile, words: WeightedWordCounts, settings: RetokenizeSettings
) -> VocabularyCandidate:
    log_message(f"learning a vocabulary: {settings.kind}")
    target_size = _create_target_size(settings)
    if settings.kind == "extended":
        return build_extended_candidate(base, words, target_size)
    if settings.kind == "optimized":
        kept_tokens = settings.kept_tokens or len(base.vocabulary) // 2
        return build_optimized_candidate(base, words, target_size, kept_tokens=kept_tokens)
    return (build_bpe_candidate if settings.kind == "bpe" else build_unigram_candidate)(base, words, target_size)


def _create_target_size(settings: RetokenizeSettings) -> TargetSize:
    def target_size(num_fixed: int) -> int:
        if settings.vocab_size is None:
            return settings.new_tokens or MAX_LEARNED_TOKENS
        if settings.vocab_size <= num_fixed:
            raise DataError(
                f"vocab_size={settings.vocab_size} leaves no token to learn: {num_fixed} tokens are fixed; "
                "give a larger vocab_size"
            )
        return settings.vocab_size - num_fixed

    return target_size


def _choose_token_count(settings: RetokenizeSettings, candidate: VocabularyCandidate, texts: TextsByLanguage) -> int:
    """Return how many of the learned tokens to take."""
    if settings.characters_per_token:
        return _find_smallest_count(settings, candidate, texts)
    if settings.import_tokens_from and not (settings.vocab_size or settings.new_tokens):
        return candidate.num_available
    requested = _create_target_size(settings)(candidate.num_fixed)
    if candidate.num_available < requested:
        remedy = "request fewer" if settings.import_tokens_from else "give more text or request fewer"
        raise DataError(
            f"{settings.import_tokens_from or 'the text'} yields {candidate.num_available} new tokens of the "
            f"{requested} requested; {remedy}"
        )
    return requested


def _find_smallest_count(settings: RetokenizeSettings, candidate: VocabularyCandidate, texts: TextsByLanguage) -> int:
    """Return the fewest learned tokens that reach the target of characters per token on the mixture's held-out text."""
    shares = settings.mixture or dict.fromkeys(texts, 1.0)

    def compute_mixture_compression(count: int) -> float:
        tokenizer = candidate.build(count).tokenizer
        tokens = sum(
            share / _compute_characters_per_token(tokenizer, texts[language]) for language, share in shares.items()
        )
        return sum(shares.values()) / tokens

    target = settings.characters_per_token or 0.0
    if (maximum := compute_mixture_compression(candidate.num_available)) < target:
        raise DataError(
            f"{candidate.num_available} new tokens, all that the text yields, reach {maximum:.2f} characters per "
            f"token, not {target}; give more text or a lower target"
        )
    return bisect_left(range(candidate.num_available), target, key=compute_mixture_compression)


def _write_and_check_sentencepiece(
    base: TokenizerFile, new: TokenizerFile, probes: Sequence[str]
) -> list[VocabularyCheck]:
    """Write the SentencePiece file of a SentencePiece base that has one, and check that it gives the same ids."""
    source = base.path.parent / SENTENCEPIECE_FILE
    if new.scheme != "sentencepiece" or not source.exists() or TokenKind.UNUSED in new.vocabulary.kinds:
        return []
    file = new.path.parent / SENTENCEPIECE_FILE
    write_sentencepiece(source, file, tokenizer_json=new.tokenizer_json)
    return [check_sentencepiece_file(base, new, file, probes)]


def _summarize_vocabulary(
    settings: RetokenizeSettings, base: TokenizerFile, new: TokenizerFile, texts: TextsByLanguage
) -> RetokenizationResult:
    """Return sizes, compression and examples of the new vocabulary."""
    old = set(zip(base.vocabulary.tokens, base.vocabulary.kinds, strict=True))
    kept = sum(entry in old for entry in zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True))
    example_texts = texts[next(iter(settings.mixture or texts))][:NUM_EXAMPLES]
    return RetokenizationResult(
        kind=settings.kind,
        old_tokens=len(base.vocabulary),
        kept_tokens=kept,
        new_tokens=len(new.vocabulary) - kept,
        vocab_size=len(new.vocabulary),
        characters_per_token={
            language: BeforeAfter(*(_compute_characters_per_token(file, documents) for file in (base, new)))
            for language, documents in texts.items()
        },
        examples=tuple(_build_example(base, new, text[:EXAMPLE_CHARACTERS]) for text in example_texts),
    )


def _compute_characters_per_token(tokenizer: TokenizerFile, texts: Sequence[str]) -> float:
    return characters_per_token(texts, tokens=tokenizer.count_tokens(texts))


def _build_example(base: TokenizerFile, new: TokenizerFile, text: str) -> SegmentationExample:
    return SegmentationExample(text, _segment_to_strings(base, text), _segment_to_strings(new, text))


def _segment_to_strings(tokenizer: TokenizerFile, text: str) -> tuple[str, ...]:
    """Return each token of a text as a string; bytes that are only part of a character are escaped."""
    tokens = (tokenizer.vocabulary.tokens[id_] for id_ in tokenizer.encode_batch([text])[0])
    return tuple(token.decode(errors="backslashreplace") for token in tokens)
