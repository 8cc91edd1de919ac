"""Raw text → corpus: clean, deduplicated, split into train and held-out; what was dropped, and why."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lep.config import Collect, Source
from lep.errors import DataError
from lep.io.corpus import document_digest, is_heldout
from lep.io.documents import Rejected, read_documents
from lep.progress import progress


def run(settings: Collect, out: Path) -> dict[str, Any]:
    """Write `LANGUAGE.train.jsonl` and `LANGUAGE.heldout.jsonl` for every source."""
    return {
        "languages": {
            language: _collect(source, settings, language=language, out=out)
            for language, source in settings.sources.items()
        }
    }


def _collect(source: Source, settings: Collect, *, language: str, out: Path) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    seen: set[bytes] = set()
    with ExitStack() as stack:
        halves = {
            half: stack.enter_context((out / f"{language}.{half}.jsonl").open("w", encoding="utf-8"))
            for half in ("train", "heldout")
        }
        advance = stack.enter_context(progress(f"collect {language}", total=_size(source), unit="bytes"))
        for document, size in _documents(source):
            counts["documents_read"] += 1
            advance(size)
            text = document if isinstance(document, Rejected) else _clean(document)
            digest = b"" if isinstance(text, Rejected) else document_digest(text)
            if reason := _reason(text, source, settings) or ("duplicate" if digest in seen else ""):
                dropped[reason] += 1
                continue
            seen.add(digest)
            half = "heldout" if is_heldout(digest, share=settings.heldout_share, seed=settings.seed) else "train"
            halves[half].write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            counts[f"documents_{half}"] += 1
            counts[f"characters_{half}"] += len(str(text))
            kept = counts["characters_train"] + counts["characters_heldout"]
            if source.maximum_characters and kept >= source.maximum_characters:
                break
    if not counts["documents_train"] or not counts["documents_heldout"]:
        raise DataError(
            f"{language}: {counts['documents_train']} documents to train on and {counts['documents_heldout']} held out "
            f"are left of {counts['documents_read']} (dropped: {dict(dropped)}); give more text or change the filters"
        )
    return {**counts, "dropped": dict(dropped)}


def _documents(source: Source) -> Iterator[tuple[str | Rejected, int]]:
    for file in source.files:
        for document in read_documents(file, field=source.field):
            yield document, 0 if isinstance(document, Rejected) else len(document.encode(errors="replace"))


def _size(source: Source) -> int:
    """Bytes to come, as far as file sizes tell."""
    return sum(file.stat().st_size for file in source.files if file.exists())


def _clean(text: str) -> str:
    """The text without control characters (tab and line break stay) and outer space; nothing else is changed."""
    kept = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return kept.strip()


def _reason(text: str | Rejected, source: Source, settings: Collect) -> str:
    """Why a document is dropped; empty when it is kept."""
    if isinstance(text, Rejected):
        return text.reason
    if len(text) < settings.minimum_characters:
        return "too short"
    if source.script and script_share(text, source.script) < settings.script_share:
        return "wrong script"
    return ""


def script_share(text: str, script: str) -> float:
    """Share of the letters whose Unicode names begin with the script (`CYRILLIC SMALL LETTER A`); 0 without letters."""
    letters = Counter(character for character in text if character.isalpha())
    of_script = sum(n for c, n in letters.items() if unicodedata.name(c, "").startswith(script.upper()))
    return of_script / letters.total() if letters else 0.0
