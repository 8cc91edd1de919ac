"""Rows of structured data, each with its place: from .jsonl, .json and .parquet files, folders, and data sets."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lep.config.data_source import Origin
from lep.data.documents import dataset_rows, document_files, file_kind, open_packed
from lep.errors import DataError

_IN_FOLDERS = (".jsonl", ".parquet")
"""A .json file beside others is as a rule about the data, not data."""


@dataclass(frozen=True)
class Record:
    """A row, and where it stands."""

    row: dict[str, Any]
    place: str
    """`file:row`, the first row being 1; in a .jsonl file the line."""


def read_records(path: Path) -> Iterator[Record]:
    """The rows of a file, or of the files of a folder, one by one.

    Args:
        path: .jsonl (one object a line; blank lines do not count) or .json (one list of objects), each also .gz or
            .xz; .parquet; or a folder, which stands for all .jsonl and .parquet files in it.

    Raises:
        DataError: a file is missing, damaged or of another format; names the row that is no object.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    for file in document_files(path, kinds=_IN_FOLDERS):
        kind = file_kind(file)
        if kind not in _READERS:
            raise DataError(f"{file}: expected rows as .jsonl or .json (also .gz, .xz) or .parquet")
        try:
            for number, row in _READERS[kind](file):
                if not isinstance(row, dict):
                    raise DataError(f"{file}:{number}: expected an object, found {str(row)[:60]!r}")
                yield Record(row, f"{file}:{number}")
        except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:  # ValueError: json's and pyarrow's
            raise DataError(f"{file}: damaged, or not what its name says ({error}); fetch it again") from None


def dataset_records(
    dataset: str | Path, *, name: str | None = None, split: str = "train", revision: str | None = None
) -> Iterator[Record]:
    """The rows of a data set; see `lep.data.documents.dataset_rows`."""
    rows = dataset_rows(dataset, name=name, split=split, revision=revision)
    return (Record(row, f"{dataset}:{number}") for number, row in enumerate(rows, start=1))


def origin_records(origin: Path | Origin) -> Iterator[Record]:
    """The rows of what settings name: a path, files, or a data set."""
    if isinstance(origin, Path):
        return read_records(origin)
    if origin.files:
        return chain.from_iterable(map(read_records, origin.files))
    split = origin.split or "train"
    return dataset_records(str(origin.dataset), name=origin.name, split=split, revision=origin.revision)


def _jsonl(file: Path) -> Iterator[tuple[int, Any]]:
    with open_packed(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}:{number}: not JSON ({error})") from None


def _json(file: Path) -> Iterator[tuple[int, Any]]:
    with open_packed(file) as stream:
        rows = json.load(stream)
    if not isinstance(rows, list):
        raise DataError(f"{file}: expected one list of objects; for one object a line, name the file .jsonl")
    yield from enumerate(rows, start=1)


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet

    number = 0
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield number, row


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Any]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
}


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; the file is there when it is whole, in the place of one that was."""
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.replace(file)
