"""Items that models are measured with: what is asked, and the right answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lep.data.records import read_records
from lep.errors import DataError


def read_items(file: Path, *, required: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Rows with `prompt` and `completion`, each a list of messages, and the required keys.

    Raises:
        DataError: names the row where a key is missing or something else than messages stands.
    """
    rows: list[dict[str, Any]] = []
    for record in read_records(file):
        if absent := [key for key in ("prompt", "completion", *required) if key not in record.row]:
            raise DataError(f"{record.place}: the row has no {', '.join(map(repr, absent))}")
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
