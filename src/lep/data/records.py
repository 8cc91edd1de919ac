"""Read rows of structured data, each with its place, from .jsonl, .json and .parquet files, folders and datasets."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lep.data.documents import list_document_files, open_decompressed, read_dataset_rows, uncompressed_suffix
from lep.errors import DataError
from lep.io.atomic import open_atomically

_FOLDER_SUFFIXES = (".jsonl", ".parquet")
"""A .json file in a folder usually describes the data and holds none."""


@dataclass(frozen=True)
class Record:
    """A row and its place."""

    row: dict[str, Any]
    place: str
    """`file:row`, counted from 1; in a .jsonl file `file:line`."""


def read_records(path: Path) -> Iterator[Record]:
    """Read the rows of a file, or of all .jsonl and .parquet files of a folder.

    Args:
        path: .jsonl (one object a line; blank lines do not count) or .json (one list of objects), each also .gz or
            .xz; .parquet; or a folder.

    Yields:
        One record a row.

    Raises:
        DataError: A file is missing, damaged or of another format, or a row is not an object; the row is named.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    for file in list_document_files(path, suffixes=_FOLDER_SUFFIXES):
        kind = uncompressed_suffix(file)
        if kind not in _READERS:
            raise DataError(f"{file}: expected rows as .jsonl or .json (also .gz, .xz) or .parquet")
        try:
            for number, row in _READERS[kind](file):
                if not isinstance(row, dict):
                    raise DataError(f"{file}:{number}: expected an object, found {str(row)[:60]!r}")
                yield Record(row, f"{file}:{number}")
        except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:  # ValueError: json's and pyarrow's
            raise DataError(f"{file}: damaged, or not what its name says ({error}); fetch it again") from None


def read_source_records(
    *,
    files: Sequence[Path] | None = None,
    dataset: str | Path | None = None,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> Iterator[Record]:
    """Read the rows of several files, or of a dataset.

    Args:
        files: Files and folders, read one after the other.
        dataset: Instead of files, an id on the Hugging Face hub or a folder.
        name: Configuration of the dataset; None: its only or default one.
        split: Split of the dataset; None: `train`.
        revision: Branch, tag or commit on the hub; None: the newest.

    Returns:
        The records.

    Raises:
        DataError: See `read_records` and `lep.data.documents.read_dataset_rows`.
    """
    if files:
        return chain.from_iterable(map(read_records, files))
    rows = read_dataset_rows(str(dataset), name=name, split=split or "train", revision=revision)
    return (Record(row, f"{dataset}:{number}") for number, row in enumerate(rows, start=1))


def write_jsonl(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; the file is replaced only when all are written."""
    with open_atomically(file) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _read_jsonl(file: Path) -> Iterator[tuple[int, Any]]:
    with open_decompressed(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}:{number}: not JSON ({error})") from None


def _read_json(file: Path) -> Iterator[tuple[int, Any]]:
    with open_decompressed(file) as stream:
        rows = json.load(stream)
    if not isinstance(rows, list):
        raise DataError(f"{file}: expected one list of objects; for one object a line, name the file .jsonl")
    yield from enumerate(rows, start=1)


def _read_parquet(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet

    number = 0
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield number, row


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
