"""Base + text → how large a new vocabulary should be, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lep.config import Advise
from lep.core.vocabulary_sizing import Model, Text, doublings, padded, recommend, weigh
from lep.data.corpus import heldout_excerpts
from lep.errors import DataError, TokenizerError, UsageError
from lep.io.model_folder import check_rows, open_model
from lep.io.safetensors_files import INDEX, SINGLE
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.progress import note
from lep.reporting.page.vocabulary_sizing_chart import chart
from lep.reporting.tables.vocabulary_sizing import Advised, assumptions, why
from lep.tokenization.builders import Draft, extended_draft, optimized_draft
from lep.tokenization.merge_continuation import check_merges
from lep.tokenization.size_sweep import sweep
from lep.tokenization.word_counts import WordMix, count_words

PROBE = 1_000_000
"""Held-out characters a language on which vocabularies are measured."""


def run(settings: Advise, out: Path) -> dict[str, Any]:
    """Write `advice.svg`; the numbers hold the table, the recommendation, and both in words."""
    base = _base(settings.base)
    model = _model(settings, base)
    texts = heldout_excerpts(settings.corpus, settings.mixture, characters=PROBE)
    amounts = {language: _amount(settings.corpus, language, found) for language, found in texts.items()}
    skipped: Counter[str] = Counter()
    words = count_words(base, settings.corpus, mixture=settings.mixture, skipped=skipped)
    shares = settings.mixture or {language: float(found.characters) for language, found in words.words.items()}
    note(f"learning a vocabulary: {settings.kind}")
    draft = _draft(base, words, settings)
    sizes = sweep(base, draft, texts=texts, words=words, tokens=settings.tokens)
    points = weigh(sizes, amounts, shares=shares, model=model)
    advised = Advised(
        kind=settings.kind,
        tokens=settings.tokens,
        shares=shares,
        texts=amounts,
        model=model,
        points=tuple(points),
        recommendation=recommend(points),
    )
    (out / "advice.svg").write_text(chart(advised), encoding="utf-8")
    more = {"why": why(advised), "assumptions": assumptions(advised), "documents_skipped": dict(skipped)}
    return asdict(advised) | more | draft.facts


def _base(path: Path) -> TokenizerFile:
    """A tokenizer that can be continued, and neither cuts nor pads."""
    read = read_tokenizer(path)
    try:
        check_merges(read)
    except TokenizerError as error:
        raise TokenizerError(f"{error} to `lep retokenize`; there is no size to advise on") from None
    return replace(read, state=read.state | {"truncation": None, "padding": None})


def _model(settings: Advise, base: TokenizerFile) -> Model | None:
    """The base's own model, else the one that the settings describe, if they do."""
    if any((settings.base / name).exists() for name in (SINGLE, INDEX)):
        if settings.width:
            raise UsageError(f"{settings.base} is a whole model; leave out width, tied and parameters")
        folder = open_model(settings.base)
        check_rows(folder, tokens=len(base.vocabulary))
        rows, width = folder.checkpoint.entries[folder.names.embed].shape
        return Model(width=width, tied=folder.tied, parameters=folder.parameters, rows=rows)
    if not (settings.width and settings.parameters):
        return None
    tied, rows = bool(settings.tied), padded(len(base.vocabulary))
    tables = rows * settings.width * (1 if tied else 2)
    if settings.parameters <= tables:
        raise UsageError(f"parameters={settings.parameters:,.0f}: the tables alone have {tables:,} for this vocabulary")
    return Model(width=settings.width, tied=tied, parameters=round(settings.parameters), rows=rows)


def _amount(corpus: Path, language: str, texts: Sequence[str]) -> Text:
    words = sum(len(text.split()) for text in texts)
    if not words:
        raise DataError(f"{corpus}: the held-out text of {language!r} is white space; give more text")
    return Text(sum(map(len, texts)), sum(len(text.encode()) for text in texts), words)


def _draft(base: TokenizerFile, words: WordMix, settings: Advise) -> Draft:
    most = doublings(settings.largest)[-1]
    if settings.kind == "extended":
        return extended_draft(base, words, lambda _: most)
    return optimized_draft(base, words, lambda _: most, keep=settings.kept_tokens or len(base.vocabulary) // 2)
