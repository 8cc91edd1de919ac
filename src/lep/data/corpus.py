"""Read a corpus by language and split (train, held-out): one made by `collect`, a file of documents, or a folder.

`collect` writes `LANGUAGE.train.jsonl` and `LANGUAGE.heldout.jsonl`. A plain file, or each file of a folder, is one
language (or kind of text), named like the file; a hash of each document decides its split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from lep.data.documents import SkippedDocument, read_documents, take_characters
from lep.errors import DataError

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 0.02
"""Fraction of a plain file's documents that are held out."""

_SUFFIXES = (".jsonl", ".txt", ".parquet", ".gz", ".xz")


def list_corpus_languages(corpus: Path) -> list[str]:
    """Return the languages of a corpus, in alphabetical order."""
    return sorted(_find_language_files(corpus))


def find_corpus_file(corpus: Path, language: str, split: Split) -> Path:
    """Find the file with one split of a language in a corpus of `collect`.

    Args:
        corpus: The folder.
        language: Of the corpus.
        split: `train` or `heldout`.

    Returns:
        A .jsonl file.

    Raises:
        DataError: There is no such language, or its splits are not separate files.
    """
    file = _find_split_file(corpus, language, split)
    if _parse_file_name(file)[1] != split:
        raise DataError(f"{file}: its splits are not separate files; make a corpus of it with `lep collect`")
    return file


def get_corpus_bytes(corpus: Path, language: str) -> int:
    """Return the size of the file with the training text of a language."""
    return _find_split_file(corpus, language, "train").stat().st_size


def read_corpus_documents(
    corpus: Path, language: str, split: Split, *, skipped: Counter[str] | None = None
) -> Iterator[str]:
    """Read the documents of one split of a language.

    Args:
        corpus: A corpus of `collect`, a file of documents, or a folder of such files.
        language: Of the corpus.
        split: `train` or `heldout`.
        skipped: Counter of the invalid documents in plain files, by reason.

    Yields:
        The documents.

    Raises:
        DataError: There is no such language, a file is damaged, or a corpus of `collect` has an invalid document.
    """
    file = _find_split_file(corpus, language, split)
    has_both_splits = _parse_file_name(file)[1] == "both"
    for document in read_documents(file):
        if isinstance(document, SkippedDocument):
            if not has_both_splits:
                raise DataError(f"{file}: a finished corpus has an invalid document ({document.reason}); collect again")
            if skipped is not None:
                skipped[document.reason] += 1
        elif not has_both_splits or is_heldout(hash_document(document), share=HELDOUT_SHARE) == (split == "heldout"):
            yield document


def read_heldout_excerpt(corpus: Path, language: str, *, max_characters: int) -> list[str]:
    """Read the first held-out documents of a language.

    Args:
        corpus: See `read_corpus_documents`.
        language: Of the corpus.
        max_characters: Of all documents; the last one is truncated.

    Returns:
        The documents.

    Raises:
        DataError: No text of the language is held out.
    """
    excerpt = list(take_characters(read_corpus_documents(corpus, language, "heldout"), max_characters=max_characters))
    if not any(excerpt):
        raise DataError(f"{corpus}: no text of {language!r} is held out; give more text, or a larger heldout_fraction")
    return excerpt


def read_heldout_excerpts(
    corpus: Path, languages: Collection[str] | None, *, max_characters: int
) -> dict[str, list[str]]:
    """Read the first held-out documents of several languages.

    Args:
        corpus: See `read_corpus_documents`.
        languages: Must have held-out text; other languages of the corpus are read if they have some; None or empty:
            all must have it.
        max_characters: Of each language.

    Returns:
        Documents by language.

    Raises:
        DataError: No text of a required language is held out.
    """
    texts: dict[str, list[str]] = {}
    for language in dict.fromkeys([*(languages or ()), *list_corpus_languages(corpus)]):
        try:
            texts[language] = read_heldout_excerpt(corpus, language, max_characters=max_characters)
        except DataError:
            if not languages or language in languages:
                raise
    return texts


def hash_document(text: str) -> bytes:
    """Return a digest that identifies a document."""
    return hashlib.sha256(text.encode()).digest()


def is_heldout(digest: bytes, *, share: float, seed: int = 0) -> bool:
    """Return whether a document is held out, which depends on its text only, not on other documents.

    Args:
        digest: Of `hash_document`.
        share: Fraction of documents that are held out.
        seed: Changes which ones.

    Returns:
        True: held out; False: in the train split.
    """
    salted = hashlib.sha256(digest + str(seed).encode()).digest()
    return int.from_bytes(salted[:8], "big") < share * 2**64


def _find_split_file(corpus: Path, language: str, split: Split) -> Path:
    """Find the file with one split of a language, or with both."""
    files = _find_language_files(corpus)
    if language not in files:
        raise DataError(f"{corpus}: no text of language {language!r}; it has: {', '.join(sorted(files))}")
    file = files[language].get(split) or files[language].get("both")
    if file is None:
        raise DataError(f"{corpus}: the {split} split of {language!r} is missing")
    return file


def _find_language_files(corpus: Path) -> dict[str, dict[str, Path]]:
    """Find the files by language and split (`train`, `heldout` or `both`)."""
    if not corpus.exists():
        raise DataError(f"{corpus}: no such file or folder")
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(corpus.iterdir()) if corpus.is_dir() else [corpus]:
        if path.suffix in _SUFFIXES:
            language, split = _parse_file_name(path)
            splits = files.setdefault(language, {})
            if split in splits or (splits and "both" in (split, *splits)):
                raise DataError(f"{corpus}: {next(iter(splits.values())).name} and {path.name} are the same text twice")
            splits[split] = path
    if not files:
        raise DataError(f"{corpus}: no text; expected .jsonl, .txt or .parquet files, or a corpus of `lep collect`")
    return files


def _parse_file_name(file: Path) -> tuple[str, str]:
    """Return language and split: (ru, train) of `ru.train.jsonl`, (ru, both) of `ru.jsonl.gz`."""
    name = file.name
    while Path(name).suffix in _SUFFIXES:
        name = Path(name).stem
    language, _, split = name.rpartition(".")
    return (language, split) if language and split in ("train", "heldout") else (name, "both")
