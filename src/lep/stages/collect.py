"""Raw text → corpus: clean, deduplicated, split into train and held-out; what was dropped, and why."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lep.config import Collect, Source
from lep.data.corpus import document_digest, is_heldout
from lep.data.deduplication import Sketcher
from lep.data.documents import Rejected, document_files, read_dataset, read_documents
from lep.data.language_id import check_language, identify_language
from lep.errors import DataError
from lep.progress import note, progress

_BREAK = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85]")
"""What ends lines, paragraphs or pages elsewhere."""
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_TOLD = 100_000
"""Documents after which a data set, whose size is not known, tells that it goes on."""


@dataclass(frozen=True)
class _Document:
    """A cleaned document that the filters let through, and what tells whether it was there before."""

    text: str
    digest: bytes
    keys: list[int]


@dataclass(frozen=True)
class _Seen:
    """What is remembered of the documents that were kept."""

    digests: set[bytes] = field(default_factory=set)
    keys: set[int] = field(default_factory=set)

    def sift(self, document: _Document | Rejected) -> _Document | Rejected:
        """A document that repeats another is rejected; one that does not is remembered.

        Only kept documents count, so one of near duplicates is left: none has its twin in the other half.
        """
        if isinstance(document, Rejected):
            return document
        if document.digest in self.digests:
            return Rejected("duplicate")
        if not self.keys.isdisjoint(document.keys):
            return Rejected("near duplicate")
        self.digests.add(document.digest)
        self.keys.update(document.keys)
        return document


def run(settings: Collect, out: Path) -> dict[str, Any]:
    """Write `LANGUAGE.train.jsonl` and `LANGUAGE.heldout.jsonl` for every source."""
    for name, source in settings.sources.items():
        if source.language:
            check_language(source.language, place=f"sources.{name}.language")
    return {
        "languages": {name: _collect(source, settings, name=name, out=out) for name, source in settings.sources.items()}
    }


def _collect(source: Source, settings: Collect, *, name: str, out: Path) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    seen = _Seen()
    with ExitStack() as stack:
        halves = {
            half: stack.enter_context((out / f"{name}.{half}.jsonl").open("w", encoding="utf-8"))
            for half in ("train", "heldout")
        }
        raw = stack.enter_context(closing(_documents(source, label=f"collect {name}")))
        for document in map(seen.sift, _filtered(raw, source, settings)):
            counts["documents_read"] += 1
            if isinstance(document, Rejected):
                dropped[document.reason] += 1
                continue
            half = (
                "heldout" if is_heldout(document.digest, share=settings.heldout_share, seed=settings.seed) else "train"
            )
            halves[half].write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
            counts[f"documents_{half}"] += 1
            counts[f"characters_{half}"] += len(document.text)
            kept = counts["characters_train"] + counts["characters_heldout"]
            if source.maximum_characters and kept >= source.maximum_characters:
                break
    if not counts["documents_train"] or not counts["documents_heldout"]:
        raise DataError(
            f"{name}: {counts['documents_train']} documents to train on and {counts['documents_heldout']} held out "
            f"are left of {counts['documents_read']} (dropped: {dict(dropped)}); give more text or change the filters"
        )
    return {**counts, "dropped": dict(dropped)}


def _documents(source: Source, *, label: str) -> Generator[str | Rejected, None, None]:
    """What there is to read, told as it is read."""
    if source.dataset:
        documents = read_dataset(
            source.dataset,
            name=source.name,
            split=source.split or "train",
            revision=source.revision,
            field=source.field,
        )
        for number, document in enumerate(documents, start=1):
            if number % _TOLD == 0:
                note(f"{label}: {number:,} documents read")
            yield document
        return
    files = [file for path in source.files or () for file in document_files(path)]
    sizes = [file.stat().st_size if file.exists() else 0 for file in files]
    with progress(label, total=sum(sizes), unit="bytes") as advance:
        for file, left in zip(files, sizes, strict=True):  # text is longer than a packed file, shorter than jsonl
            for document in read_documents(file, field=source.field):
                size = 0 if isinstance(document, Rejected) else min(left, len(document.encode(errors="replace")))
                left -= size
                advance(size)
                yield document
            advance(left)


def _filtered(documents: Iterator[str | Rejected], source: Source, settings: Collect) -> Iterator[_Document | Rejected]:
    """Every document, cleaned and with its digest and keys, or why it is dropped."""
    sketcher = Sketcher(settings.near_duplicates) if settings.near_duplicates else None
    for document in documents:
        text = document if isinstance(document, Rejected) else _clean(document)
        if isinstance(text, Rejected):
            yield text
        elif reason := _reason(text, source, settings):
            yield Rejected(reason)
        else:
            yield _Document(text, document_digest(text), sketcher.keys(text) if sketcher else [])


def _clean(text: str) -> str:
    """The text with `\\n` for every break of line or page, without other control characters (tabs stay) and outer
    space; nothing else is changed: paragraphs stay apart."""
    return _CONTROL.sub("", _BREAK.sub("\n", text)).strip()


def _reason(text: str, source: Source, settings: Collect) -> str:
    """Why a document is dropped; empty when it is kept."""
    if len(text) < settings.minimum_characters:
        return "too short"
    if source.script and script_share(text, source.script) < settings.script_share:
        return "wrong script"
    if source.language and identify_language(text) != source.language:
        return "wrong language"
    return ""


def script_share(text: str, script: str) -> float:
    """Share of the letters whose Unicode names begin with the script (`CYRILLIC SMALL LETTER A`); 0 without letters."""
    letters = Counter(character for character in text if character.isalpha())
    of_script = sum(n for c, n in letters.items() if unicodedata.name(c, "").startswith(script.upper()))
    return of_script / letters.total() if letters else 0.0
