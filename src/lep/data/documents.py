"""Streams of documents from text files and data sets."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lep.errors import DataError

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: JSON can escape one, UTF-8 cannot write it."""
_KINDS = (".jsonl", ".txt", ".parquet")


@dataclass(frozen=True)
class Rejected:
    """Something that stands where a document should, and is none."""

    reason: str


def read_documents(file: Path, *, field: str = "text") -> Iterator[str | Rejected]:
    """The documents of a file, one by one; single bad ones come as `Rejected`.

    Args:
        file: .jsonl (one object a line), .txt (documents parted by blank lines), each also .gz or .xz; or .parquet.
        field: key or column of the text.

    Raises:
        DataError: the file is missing, damaged or of another format, or a parquet file has no such column.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    kind = file_kind(file)
    try:
        if kind == ".jsonl":
            yield from _jsonl(file, field)
        elif kind == ".txt":
            yield from _paragraphs(file)
        elif kind == ".parquet":
            yield from _parquet(file, field)
        else:
            raise DataError(f"{file}: expected .jsonl, .txt (also .gz, .xz) or .parquet")
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:  # ValueError: pyarrow's
        raise DataError(f"{file}: damaged, or not what its name says ({error}); fetch it again") from None


def document_files(path: Path, *, kinds: Sequence[str] = _KINDS) -> list[Path]:
    """A file itself; of a folder all files of these kinds, those in folders within too, in the order of their names.

    Hidden files and folders are passed over.

    Raises:
        DataError: the folder has no such file.
    """
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file_kind(file) in kinds and file.is_file() and not _is_hidden(file.relative_to(path))
    )
    if not found:
        raise DataError(
            f"{path}: no files of documents in this folder; expected {', '.join(kinds)} (texts also as .gz, .xz)"
        )
    return found


def beginning(documents: Iterable[str], *, characters: int) -> Iterator[str]:
    """The first documents, up to so many characters; the last one is cut."""
    left = characters
    for document in documents:
        yield document[:left]
        left -= len(document)
        if left <= 0:
            return


def read_excerpt(files: Sequence[Path], *, characters: int, skipped: Counter[str]) -> list[str]:
    """The beginning of some files, read one after the other: see `beginning`. Blank documents do not count.

    Args:
        files: what `read_documents` reads.
        characters: so many at the most.
        skipped: counts the bad documents that were met, by reason.

    Raises:
        DataError: a file cannot be read, or none of them has a document.
    """

    def good() -> Iterator[str]:
        for document in (document for file in files for document in read_documents(file)):
            if isinstance(document, Rejected):
                skipped[document.reason] += 1
            elif document.strip():
                yield document

    found = list(beginning(good(), characters=characters))
    if not found:
        names, reasons = ", ".join(map(str, files)), "; ".join(f"{n} × {why}" for why, n in skipped.items())
        raise DataError(f"{names}: no documents" + (f" ({reasons})" if reasons else "; the file is empty"))
    return found


def read_dataset(
    dataset: str | Path, *, name: str | None, split: str, revision: str | None, field: str = "text"
) -> Iterator[str | Rejected]:
    """The documents of a data set, one by one, read by `datasets` as a stream; rows without text come as `Rejected`.

    Args:
        dataset: an id on the hub, or a folder that is laid out like one.
        name: its configuration; none: the only one, or its default.
        split: the split.
        revision: branch, tag or commit on the hub; none: the newest.
        field: column of the text.

    Raises:
        DataError: it cannot be reached or read, or has no such configuration, split or column.
    """
    for row in dataset_rows(dataset, name=name, split=split, revision=revision, columns=[field]):
        yield _text(row[field], field)


def dataset_rows(
    dataset: str | Path, *, name: str | None, split: str, revision: str | None, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a data set, one by one, read by `datasets` as a stream: of these columns, or of all.

    Raises:
        DataError: it cannot be reached or read, or has no such configuration, split or column.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(str(dataset), name, split=split, revision=revision, streaming=True)
        there = rows.column_names or list(next(iter(rows), {}))
        for column in columns or ():
            if column not in there:
                raise DataError(f"{dataset}: no column {column!r}; it has: {', '.join(there)}")
        yield from rows.select_columns(list(columns)) if columns else rows  # others, as pictures, are not decoded
    except StopIteration:  # the library's own, where all files are empty
        raise DataError(f"{dataset}: holds no rows") from None
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(f"{dataset}: cannot be read as a data set ({error}){_network_hint(dataset)}") from None


def file_kind(file: Path) -> str:
    """`.jsonl` of `a.v2.jsonl.gz`."""
    return next((suffix for suffix in reversed(file.suffixes) if suffix not in (".gz", ".xz")), "")


def _is_hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


def _network_hint(dataset: str | Path) -> str:
    """What to do where the network is not to be used, as `lep` has it unless it is told otherwise."""
    from datasets import config

    if isinstance(dataset, Path) or not config.HF_HUB_OFFLINE:
        return ""
    return (
        "; the network is off: allow it with HF_HUB_OFFLINE=0 before the command, or fetch the data set first "
        f"(hf download --repo-type dataset {dataset} --local-dir FOLDER) and name that folder"
    )


def open_packed(file: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where its name ends in .gz or .xz; `DataError` when it is not there."""
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    if file.suffix == ".gz":
        return gzip.open(file, "rb")  # type: ignore[return-value]
    return lzma.open(file, "rb") if file.suffix == ".xz" else file.open("rb")


def _jsonl(file: Path, field: str) -> Iterator[str | Rejected]:
    with open_packed(file) as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except UnicodeDecodeError:
                yield Rejected("invalid UTF-8")
                continue
            except ValueError:
                yield Rejected("not JSON")
                continue
            yield _text(row.get(field) if isinstance(row, dict) else None, field)


def _text(value: object, field: str) -> str | Rejected:
    if not isinstance(value, str):
        return Rejected(f"no text in {field!r}")
    return Rejected("invalid UTF-8") if LONE_SURROGATE.search(value) else value


def _paragraphs(file: Path) -> Iterator[str | Rejected]:
    lines: list[bytes] = []
    with open_packed(file) as stream:
        for line in stream:
            if line.strip():
                lines.append(line)
            elif lines:
                yield _decoded(lines)
                lines = []
    if lines:
        yield _decoded(lines)


def _decoded(lines: list[bytes]) -> str | Rejected:
    try:
        return b"".join(lines).decode().strip("\n")
    except UnicodeDecodeError:
        return Rejected("invalid UTF-8")


def _parquet(file: Path, field: str) -> Iterator[str | Rejected]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    if field not in table.schema_arrow.names:
        raise DataError(f"{file}: no column {field!r}; it has: {', '.join(table.schema_arrow.names)}")
    for batch in table.iter_batches(columns=[field]):
        for text in batch.column(0).to_pylist():
            yield _text(text, field)
