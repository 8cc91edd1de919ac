"""Results that are kept as files while a room is at work, so that an interrupted one goes on after them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def once(file: Path, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What the file of an interrupted run already holds, else what `measure` finds, written down whole, as JSON."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        partial.write_text(json.dumps(measure(), ensure_ascii=False), encoding="utf-8")
        partial.rename(file)
    return json.loads(file.read_text(encoding="utf-8"))
