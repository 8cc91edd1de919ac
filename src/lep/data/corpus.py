"""Text by language, with a train and a held-out half: a corpus made by `collect`, a file of documents, or a folder.

A corpus keeps its halves in `LANGUAGE.train.jsonl` and `LANGUAGE.heldout.jsonl`. A plain file, or each file of a
folder, is one language (or kind of text) of its own, named like the file; a hash of each document tells its half.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from lep.data.documents import Rejected, beginning, read_documents
from lep.errors import DataError

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 0.02
"""Share of a plain file's documents that are held out."""

_SUFFIXES = (".jsonl", ".txt", ".parquet", ".gz", ".xz")


def corpus_languages(corpus: Path) -> list[str]:
    """Languages of a corpus, in alphabetical order; `DataError` when there is no text."""
    return sorted(_files(corpus))


def corpus_file(corpus: Path, language: str, split: Split) -> Path:
    """Where a corpus of `collect` keeps one half of one language; `DataError` when there is no such file."""
    file = _file(corpus, language, split)
    if _place(file)[1] != split:
        raise DataError(f"{file}: its halves are not apart; make a corpus of it with `lep collect`")
    return file


def corpus_bytes(corpus: Path, language: str) -> int:
    """How much there is to read of a language, as far as the size of its file tells."""
    return _file(corpus, language, "train").stat().st_size


def corpus_documents(
    corpus: Path, language: str, split: Split, *, skipped: Counter[str] | None = None
) -> Iterator[str]:
    """The documents of one half of one language.

    Args:
        corpus: a corpus of `collect`, a file of documents, or a folder of such files.
        skipped: counts the bad documents of plain files, by reason.

    Raises:
        DataError: no such language, a damaged file, or a bad document in a corpus that `collect` finished.
    """
    file = _file(corpus, language, split)
    whole = _place(file)[1] == "both"
    for document in read_documents(file):
        if isinstance(document, Rejected):
            if not whole:
                raise DataError(f"{file}: a finished corpus holds a bad document ({document.reason}); make it again")
            if skipped is not None:
                skipped[document.reason] += 1
        elif not whole or is_heldout(document_digest(document), share=HELDOUT_SHARE) == (split == "heldout"):
            yield document


def heldout_excerpt(corpus: Path, language: str, *, characters: int) -> list[str]:
    """The first held-out documents of a language, up to about so many characters; the last one is cut."""
    excerpt = list(beginning(corpus_documents(corpus, language, "heldout"), characters=characters))
    if not any(excerpt):
        raise DataError(f"{corpus}: nothing of {language!r} is held out; give more text, or a larger heldout_share")
    return excerpt


def heldout_excerpts(corpus: Path, languages: Collection[str] | None, *, characters: int) -> dict[str, list[str]]:
    """What `heldout_excerpt` finds of these languages, and of the others where there is something; none: of all."""
    texts: dict[str, list[str]] = {}
    for language in dict.fromkeys([*(languages or ()), *corpus_languages(corpus)]):
        try:
            texts[language] = heldout_excerpt(corpus, language, characters=characters)
        except DataError:
            if not languages or language in languages:
                raise
    return texts


def document_digest(text: str) -> bytes:
    """What tells documents apart."""
    return hashlib.sha256(text.encode()).digest()


def is_heldout(digest: bytes, *, share: float, seed: int = 0) -> bool:
    """Whether a document is held out: its text alone decides, so adding files moves none to the other half."""
    salted = hashlib.sha256(digest + str(seed).encode()).digest()
    return int.from_bytes(salted[:8], "big") < share * 2**64


def _file(corpus: Path, language: str, split: Split) -> Path:
    """The file with one half of one language, or with both."""
    files = _files(corpus)
    if language not in files:
        raise DataError(f"{corpus}: no text of language {language!r}; it has: {', '.join(sorted(files))}")
    found = files[language].get(split) or files[language].get("both")
    if found is None:
        raise DataError(f"{corpus}: the {split} half of {language!r} is not there")
    return found


def _files(corpus: Path) -> dict[str, dict[str, Path]]:
    """Files by language and half."""
    if not corpus.exists():
        raise DataError(f"{corpus}: no such file or folder")
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(corpus.iterdir()) if corpus.is_dir() else [corpus]:
        if path.suffix in _SUFFIXES:
            language, half = _place(path)
            halves = files.setdefault(language, {})
            if half in halves or (halves and "both" in (half, *halves)):
                raise DataError(f"{corpus}: {next(iter(halves.values())).name} and {path.name} are the same text twice")
            halves[half] = path
    if not files:
        raise DataError(f"{corpus}: no text; expected .jsonl, .txt or .parquet files, or a corpus of `lep collect`")
    return files


def _place(file: Path) -> tuple[str, str]:
    """Language and half: `ru.train.jsonl` is (ru, train), `ru.jsonl.gz` is (ru, both)."""
    name = file.name
    while Path(name).suffix in _SUFFIXES:
        name = Path(name).stem
    language, _, half = name.rpartition(".")
    return (language, half) if language and half in ("train", "heldout") else (name, "both")
