"""Stream documents from text files and datasets."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any

from lep.errors import DataError

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair: JSON can escape it, UTF-8 cannot encode it."""
_SUFFIXES = (".jsonl", ".txt", ".parquet")


@dataclass(frozen=True)
class SkippedDocument:
    """A row or paragraph that is not a document."""

    reason: str


def read_documents(file: Path, *, field: str = "text") -> Iterator[str | SkippedDocument]:
    """Read the documents of a file.

    Args:
        file: .jsonl (one object a line), .txt (documents separated by blank lines), each also .gz or .xz; or .parquet.
        field: Key or column of the text.

    Yields:
        A document, or an `SkippedDocument` in its place.

    Raises:
        DataError: The file is missing, damaged or of another format, or a parquet file has no such column.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    kind = uncompressed_suffix(file)
    try:
        if kind == ".jsonl":
            yield from _read_jsonl(file, field)
        elif kind == ".txt":
            yield from _read_paragraphs(file)
        elif kind == ".parquet":
            yield from _read_parquet(file, field)
        else:
            raise DataError(f"{file}: expected .jsonl, .txt (also .gz, .xz) or .parquet")
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:  # ValueError: pyarrow's
        raise DataError(f"{file}: damaged, or not what its name says ({error}); fetch it again") from None


def list_document_files(path: Path, *, suffixes: Sequence[str] = _SUFFIXES) -> list[Path]:
    """List the files of a folder and its subfolders in the order of their paths, without hidden ones.

    Args:
        path: A folder, or a file, which is returned itself.
        suffixes: Of the files, without .gz and .xz.

    Returns:
        The files.

    Raises:
        DataError: The folder has no such file.
    """
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if uncompressed_suffix(file) in suffixes and file.is_file() and not _is_hidden(file.relative_to(path))
    )
    if not files:
        raise DataError(
            f"{path}: no files of documents in this folder; expected {', '.join(suffixes)} (texts also as .gz, .xz)"
        )
    return files


def take_characters(documents: Iterable[str], *, max_characters: int) -> Iterator[str]:
    """Yield the first documents, up to so many characters; the last one is truncated."""
    remaining = max_characters
    for document in documents:
        yield document[:remaining]
        remaining -= len(document)
        if remaining <= 0:
            return


def read_excerpt(files: Sequence[Path], *, max_characters: int) -> tuple[list[str], Counter[str]]:
    """Read the first documents of files, without blank ones.

    Args:
        files: Read one after the other; see `read_documents`.
        max_characters: Of all documents; the last one is truncated.

    Returns:
        The documents, and the number of invalid documents that were read, by reason.

    Raises:
        DataError: A file cannot be read, or no file has a document.
    """
    skipped: Counter[str] = Counter()

    def read_valid() -> Iterator[str]:
        for document in chain.from_iterable(map(read_documents, files)):
            if isinstance(document, SkippedDocument):
                skipped[document.reason] += 1
            elif document.strip():
                yield document

    documents = list(take_characters(read_valid(), max_characters=max_characters))
    if not documents:
        names, reasons = ", ".join(map(str, files)), "; ".join(f"{n} × {reason}" for reason, n in skipped.items())
        raise DataError(f"{names}: no documents" + (f" ({reasons})" if reasons else "; the file is empty"))
    return documents, skipped


def read_dataset_documents(
    dataset: str | Path, *, name: str | None, split: str, revision: str | None, field: str = "text"
) -> Iterator[str | SkippedDocument]:
    """Stream the documents of a dataset by `datasets`.

    Args:
        dataset: An id on the Hugging Face hub, or a folder that is laid out like one.
        name: Configuration; None: the only or default one.
        split: The split.
        revision: Branch, tag or commit on the hub; None: the newest.
        field: Column of the text.

    Yields:
        A document, or an `SkippedDocument` for a row without text.

    Raises:
        DataError: The dataset cannot be reached or read, or has no such configuration, split or column.
    """
    for row in read_dataset_rows(dataset, name=name, split=split, revision=revision, columns=[field]):
        yield _validate_text(row[field], field)


def read_dataset_rows(
    dataset: str | Path, *, name: str | None, split: str, revision: str | None, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Stream the rows of a dataset by `datasets`.

    Args:
        dataset: An id on the Hugging Face hub, or a folder that is laid out like one.
        name: Configuration; None: the only or default one.
        split: The split.
        revision: Branch, tag or commit on the hub; None: the newest.
        columns: Read only these, and do not decode others, as images; None: all.

    Yields:
        The rows.

    Raises:
        DataError: The dataset cannot be reached or read, or has no such configuration, split or column.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(str(dataset), name, split=split, revision=revision, streaming=True)
        column_names = rows.column_names or list(next(iter(rows), {}))
        for column in columns or ():
            if column not in column_names:
                raise DataError(f"{dataset}: no column {column!r}; it has: {', '.join(column_names)}")
        yield from rows.select_columns(list(columns)) if columns else rows
    except StopIteration:  # raised by datasets if all files are empty
        raise DataError(f"{dataset}: holds no rows") from None
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(f"{dataset}: cannot be read as a dataset ({error}){_offline_hint(dataset)}") from None


def uncompressed_suffix(file: Path) -> str:
    """Return the suffix without .gz and .xz.

    >>> uncompressed_suffix(Path("a.v2.jsonl.gz"))
    '.jsonl'
    """
    return next((suffix for suffix in reversed(file.suffixes) if suffix not in (".gz", ".xz")), "")


def _is_hidden(relative_path: Path) -> bool:
    return any(part.startswith(".") for part in relative_path.parts)


def _offline_hint(dataset: str | Path) -> str:
    """Return what to do in offline mode, which is the default of the `lep` command."""
    from datasets import config

    if isinstance(dataset, Path) or not config.HF_HUB_OFFLINE:
        return ""
    return (
        "; offline mode is on: set HF_HUB_OFFLINE=0 before the command, or download the dataset first "
        f"(hf download --repo-type dataset {dataset} --local-dir FOLDER) and name that folder"
    )


def open_decompressed(file: Path) -> BufferedIOBase:
    """Open a file for reading bytes, decompressed if its name ends in .gz or .xz.

    Args:
        file: Any file.

    Returns:
        A stream of the decompressed bytes.

    Raises:
        DataError: There is no such file.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    if file.suffix == ".gz":
        return gzip.open(file, "rb")
    return lzma.open(file, "rb") if file.suffix == ".xz" else file.open("rb")


def _read_jsonl(file: Path, field: str) -> Iterator[str | SkippedDocument]:
    with open_decompressed(file) as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except UnicodeDecodeError:
                yield SkippedDocument("invalid UTF-8")
                continue
            except ValueError:
                yield SkippedDocument("not JSON")
                continue
            yield _validate_text(row.get(field) if isinstance(row, dict) else None, field)


def _validate_text(value: object, field: str) -> str | SkippedDocument:
    if not isinstance(value, str):
        return SkippedDocument(f"no text in {field!r}")
    return SkippedDocument("invalid UTF-8") if LONE_SURROGATE.search(value) else value


def _read_paragraphs(file: Path) -> Iterator[str | SkippedDocument]:
    lines: list[bytes] = []
    with open_decompressed(file) as stream:
        for line in stream:
            if line.strip():
                lines.append(line)
            elif lines:
                yield _decode_lines(lines)
                lines = []
    if lines:
        yield _decode_lines(lines)


def _decode_lines(lines: list[bytes]) -> str | SkippedDocument:
    try:
        return b"".join(lines).decode().strip("\n")
    except UnicodeDecodeError:
        return SkippedDocument("invalid UTF-8")


def _read_parquet(file: Path, field: str) -> Iterator[str | SkippedDocument]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    if field not in table.schema_arrow.names:
        raise DataError(f"{file}: no column {field!r}; it has: {', '.join(table.schema_arrow.names)}")
    for batch in table.iter_batches(columns=[field]):
        for text in batch.column(0).to_pylist():
            yield _validate_text(text, field)
