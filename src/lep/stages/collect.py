"""Raw text → corpus: clean, deduplicated, split into train and held-out documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from lep.config import CollectSettings, CorpusSource
from lep.data.cleaning import DocumentFilter, clean_text
from lep.data.corpus import hash_document, is_heldout
from lep.data.deduplication import MinHasher
from lep.data.documents import SkippedDocument, list_document_files, read_dataset_documents, read_documents
from lep.data.language_id import check_language
from lep.errors import DataError
from lep.progress import log_message, track_progress
from lep.results.stages import CollectedLanguage, CollectionResult

_LOG_EVERY_DOCUMENTS = 100_000
"""How often the progress of a data set of unknown size is reported."""


@dataclass(frozen=True)
class _Document:
    """A cleaned document that passed the filters, and the keys that find its duplicates."""

    text: str
    digest: bytes
    band_keys: list[int]


@dataclass(frozen=True)
class _Deduplicator:
    """The keys of all documents that were kept."""

    digests: set[bytes] = field(default_factory=set)
    band_keys: set[int] = field(default_factory=set)

    def reject_duplicate(self, document: _Document | SkippedDocument) -> _Document | SkippedDocument:
        """Reject a document that repeats a kept one; remember one that does not.

        Of several near duplicates the first is kept, so that none has its twin in the other split.

        Args:
            document: A document that passed the filters, or why it did not.

        Returns:
            The document, or why it is dropped.
        """
        if isinstance(document, SkippedDocument):
            return document
        if document.digest in self.digests:
            return SkippedDocument("duplicate")
        if not self.band_keys.isdisjoint(document.band_keys):
            return SkippedDocument("near duplicate")
        self.digests.add(document.digest)
        self.band_keys.update(document.band_keys)
        return document


def run(settings: CollectSettings, out: Path) -> CollectionResult:
    """Write `LANGUAGE.train.jsonl` and `LANGUAGE.heldout.jsonl` for every source."""
    for name, source in settings.sources.items():
        if source.language:
            check_language(source.language, setting=f"sources.{name}.language")
    return CollectionResult(
        {name: _collect_source(source, settings, name=name, out=out) for name, source in settings.sources.items()}
    )


def _collect_source(source: CorpusSource, settings: CollectSettings, *, name: str, out: Path) -> CollectedLanguage:
    documents: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    deduplicator = _Deduplicator()
    with ExitStack() as stack:
        files = {
            split: stack.enter_context((out / f"{name}.{split}.jsonl").open("w", encoding="utf-8"))
            for split in ("train", "heldout")
        }
        raw = stack.enter_context(closing(_read_documents(source, label=f"collect {name}")))
        for document in map(deduplicator.reject_duplicate, _filter_documents(raw, source, settings)):
            documents["read"] += 1
            if isinstance(document, SkippedDocument):
                dropped[document.reason] += 1
                continue
            heldout = is_heldout(document.digest, share=settings.heldout_fraction, seed=settings.seed)
            split = "heldout" if heldout else "train"
            files[split].write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
            documents[split] += 1
            characters[split] += len(document.text)
            if source.max_characters and characters.total() >= source.max_characters:
                break
    if not documents["train"] or not documents["heldout"]:
        raise DataError(
            f"{name}: {documents['train']} training and {documents['heldout']} held-out documents are left of "
            f"{documents['read']} (dropped: {dict(dropped)}); give more text or change the filters"
        )
    return CollectedLanguage(
        documents_read=documents["read"],
        documents_train=documents["train"],
        documents_heldout=documents["heldout"],
        characters_train=characters["train"],
        characters_heldout=characters["heldout"],
        dropped=dict(dropped),
    )


def _read_documents(source: CorpusSource, *, label: str) -> Generator[str | SkippedDocument, None, None]:
    """Yield the raw documents of a source and report progress."""
    if source.dataset:
        documents = read_dataset_documents(
            source.dataset,
            name=source.name,
            split=source.split or "train",
            revision=source.revision,
            field=source.text_field,
        )
        for number, document in enumerate(documents, start=1):
            if number % _LOG_EVERY_DOCUMENTS == 0:
                log_message(f"{label}: {number:,} documents read")
            yield document
        return
    files = [file for path in source.files or () for file in list_document_files(path)]
    sizes = [file.stat().st_size if file.exists() else 0 for file in files]
    with track_progress(label, total=sum(sizes), unit="bytes") as advance:
        for file, remaining in zip(files, sizes, strict=True):  # text is longer than a packed file, shorter than jsonl
            for document in read_documents(file, field=source.text_field):
                is_valid = not isinstance(document, SkippedDocument)
                size = min(remaining, len(document.encode(errors="replace"))) if is_valid else 0
                remaining -= size
                advance(size)
                yield document
            advance(remaining)


def _filter_documents(
    documents: Iterator[str | SkippedDocument], source: CorpusSource, settings: CollectSettings
) -> Iterator[_Document | SkippedDocument]:
    """Yield every document, cleaned and with its keys, or why it is dropped."""
    hasher = MinHasher(settings.near_duplicate_threshold) if settings.near_duplicate_threshold else None
    document_filter = DocumentFilter(
        min_characters=settings.min_characters,
        script=source.script,
        min_script_fraction=settings.min_script_fraction,
        language=source.language,
    )
    for document in documents:
        text = document if isinstance(document, SkippedDocument) else clean_text(document)
        if isinstance(text, SkippedDocument):
            yield text
        elif reason := document_filter.find_rejection_reason(text):
            yield SkippedDocument(reason)
        else:
            yield _Document(text, hash_document(text), hasher.compute_band_keys(text) if hasher else [])
