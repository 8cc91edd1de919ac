"""An evaluation and all that led to it → one page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lep.config import Report
from lep.reporting.page.render import render
from lep.reporting.run_data import gather
from lep.reporting.tables.paper_comparison import beside_paper


def run(settings: Report, out: Path) -> dict[str, Any]:
    """Write `index.html`, which needs no other file and no network."""
    facts = gather(settings.evaluation)
    beside = beside_paper(facts.evaluation.benchmark, settings.paper or {})
    page = render(facts, title=settings.title, paper=settings.paper, language=settings.language)
    (out / "index.html").write_text(page, encoding="utf-8")
    return {"bytes": len(page.encode()), "paper": [asdict(one) for one in beside]}
