"""Read evaluation items: a prompt and the right answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lep.data.records import read_records
from lep.errors import DataError


def read_eval_items(file: Path, *, required_keys: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Read rows with `prompt` and `completion`, each a list of messages.

    Args:
        file: See `lep.data.records.read_records`.
        required_keys: Other keys that each row must have.

    Returns:
        The rows.

    Raises:
        DataError: There are no rows, a key is missing, or a value is not a list of messages; the row is named.
    """
    rows: list[dict[str, Any]] = []
    for record in read_records(file):
        if missing := [key for key in ("prompt", "completion", *required_keys) if key not in record.row]:
            raise DataError(f"{record.place}: the row has no {', '.join(map(repr, missing))}")
        for key in ("prompt", "completion"):
            if not _are_messages(record.row[key]):
                raise DataError(f"{record.place}: {key!r} must be a list of messages, each with `role` and `content`")
        rows.append(record.row)
    if not rows:
        raise DataError(f"{file}: holds no rows")
    return rows


def _are_messages(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict) and all(isinstance(item.get(k), str) for k in ("role", "content")) for item in value
        )
    )
