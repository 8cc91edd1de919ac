"""Base + text → how large a new vocabulary should be, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lep.config import AdviseSettings
from lep.core.vocabulary_sizing import candidate_sizes, compute_tradeoffs, pad_vocabulary_size, recommend_size
from lep.data.corpus import read_heldout_excerpts
from lep.errors import DataError, TokenizerError, UsageError
from lep.io.model_folder import check_embedding_rows, open_model
from lep.io.safetensors_files import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.progress import log_message
from lep.reporting.page.vocabulary_sizing_chart import draw_size_chart
from lep.reporting.tables.vocabulary_sizing import explain_recommendation, list_assumptions
from lep.results.advice import AdviceResult, ModelDimensions, TextCounts
from lep.tokenization.builders import VocabularyCandidate, build_extended_candidate, build_optimized_candidate
from lep.tokenization.merge_continuation import check_merges
from lep.tokenization.size_sweep import sweep_sizes
from lep.tokenization.word_counts import WeightedWordCounts, count_words

PROBE_CHARACTERS = 1_000_000
"""Held-out characters of each language on which vocabularies are measured."""


def run(settings: AdviseSettings, out: Path) -> AdviceResult:
    """Write the chart `advice.svg`, and recommend a vocabulary size.

    Args:
        settings: settings of the stage.
        out: empty folder.

    Returns:
        The tradeoff of each size, and the recommendation with its reasons.

    Raises:
        TokenizerError: the base has no merges to extend or prune.
        DataError: the text is missing, or its held-out part is white space.
        UsageError: the settings describe a model that the base already has, or one that cannot be.
    """
    base = _read_base_tokenizer(settings.base)
    model = _resolve_model_dimensions(settings, base)
    texts = read_heldout_excerpts(settings.corpus, settings.mixture, max_characters=PROBE_CHARACTERS)
    text_counts = {language: _count_text(settings.corpus, language, documents) for language, documents in texts.items()}
    words = count_words(base, settings.corpus, mixture=settings.mixture)
    shares = settings.mixture or {language: float(counter.characters) for language, counter in words.counters.items()}
    log_message(f"learning a vocabulary: {settings.kind}")
    candidate = _build_candidate(base, words, settings)
    sizes = sweep_sizes(base, candidate, texts=texts, words=words, training_tokens=settings.tokens)
    points = compute_tradeoffs(sizes, text_counts, shares=shares, model=model)
    result = AdviceResult(
        kind=settings.kind,
        training_tokens=settings.tokens,
        language_weights=shares,
        texts=text_counts,
        model=model,
        points=tuple(points),
        recommendation=recommend_size(points),
        documents_skipped=words.skipped,
        statistics=candidate.statistics,
    )
    (out / "advice.svg").write_text(draw_size_chart(result), encoding="utf-8")
    explanation, assumptions = explain_recommendation(result), list_assumptions(result)
    return replace(result, explanation=tuple(explanation), assumptions=tuple(assumptions))


def _read_base_tokenizer(path: Path) -> TokenizerFile:
    """Read a tokenizer that can be extended."""
    tokenizer = read_tokenizer(path)
    try:
        check_merges(tokenizer)
    except TokenizerError as error:
        raise TokenizerError(f"{error} to `lep retokenize`; there is no size to advise on") from None
    return tokenizer


def _resolve_model_dimensions(settings: AdviseSettings, base: TokenizerFile) -> ModelDimensions | None:
    """Return the dimensions of the base's model, else of the model that the settings describe, else `None`."""
    if any((settings.base / name).exists() for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        if settings.hidden_size:
            raise UsageError(
                f"{settings.base} has model weights; leave out hidden_size, tie_word_embeddings and num_parameters"
            )
        folder = open_model(settings.base)
        check_embedding_rows(folder, vocabulary_size=len(base.vocabulary))
        rows, width = folder.checkpoint.entries[folder.embedding_names.embed].shape
        return ModelDimensions(
            hidden_size=width, tied=folder.tied, num_parameters=folder.num_parameters, num_embeddings=rows
        )
    if not (settings.hidden_size and settings.num_parameters):
        return None
    tied, rows = bool(settings.tie_word_embeddings), pad_vocabulary_size(len(base.vocabulary))
    embedding_parameters = rows * settings.hidden_size * (1 if tied else 2)
    if settings.num_parameters <= embedding_parameters:
        raise UsageError(
            f"num_parameters={settings.num_parameters:,.0f}: the embeddings of this vocabulary alone have "
            f"{embedding_parameters:,}; give the parameters of the whole model"
        )
    return ModelDimensions(
        hidden_size=settings.hidden_size, tied=tied, num_parameters=round(settings.num_parameters), num_embeddings=rows
    )


def _count_text(corpus: Path, language: str, texts: Sequence[str]) -> TextCounts:
    words = sum(len(text.split()) for text in texts)
    if not words:
        raise DataError(f"{corpus}: the held-out text of {language!r} is white space; give more text")
    return TextCounts(sum(map(len, texts)), sum(len(text.encode()) for text in texts), words)


def _build_candidate(base: TokenizerFile, words: WeightedWordCounts, settings: AdviseSettings) -> VocabularyCandidate:
    max_tokens = candidate_sizes(settings.max_added_tokens)[-1]
    if settings.kind == "extended":
        return build_extended_candidate(base, words, lambda _: max_tokens)
    kept_tokens = settings.kept_tokens or len(base.vocabulary) // 2
    return build_optimized_candidate(base, words, lambda _: max_tokens, kept_tokens=kept_tokens)
