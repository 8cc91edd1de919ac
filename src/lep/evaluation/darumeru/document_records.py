"""The record of each document of a benchmark task, kept as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lep.data.records import write_jsonl
from lep.evaluation.saved_measurements import parse_measurement


@dataclass(frozen=True, kw_only=True)
class DocumentRecord:
    """One document: what the model was asked, what it answered, and the result."""

    document: int
    """The first is 1."""
    prompt: str
    gold: str
    answer: str | None = None
    """What the model generated; `None` where options are compared."""
    log_probabilities: tuple[tuple[str, float], ...] | None = None
    """Each option with its log-probability; `None` where the model generates."""
    score: Any
    """The result of the document, as `lep.evaluation.darumeru.task_functions` returns it."""


def write_document_records(file: Path, records: Iterable[DocumentRecord]) -> None:
    """Write the records of a task completely or not at all; fields that are `None` are left out."""
    write_jsonl(file, ({key: value for key, value in asdict(row).items() if value is not None} for row in records))


def read_document_records(file: Path) -> list[DocumentRecord]:
    """Read the records of a task.

    Args:
        file: As `write_document_records` writes it.

    Returns:
        The records, in the order of the documents.

    Raises:
        ArtifactError: A line is not a record.
    """
    with file.open(encoding="utf-8") as lines:
        return [parse_measurement(line, DocumentRecord, file=file) for line in lines]
