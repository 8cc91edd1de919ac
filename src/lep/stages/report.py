"""An evaluation and all that led to it → one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lep.config import Report
from lep.reporting.facts import gather
from lep.reporting.page import render


def run(settings: Report, out: Path) -> dict[str, Any]:
    """Write `index.html`, which needs no other file and no network."""
    page = render(gather(settings.evaluation), title=settings.title)
    (out / "index.html").write_text(page, encoding="utf-8")
    return {"bytes": len(page.encode())}
