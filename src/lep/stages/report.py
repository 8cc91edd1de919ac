"""An evaluation and every stage that led to it → one page."""

from __future__ import annotations

from pathlib import Path

from lep.config import ReportSettings
from lep.reporting.page.render import render_page
from lep.reporting.run_data import load_run_data
from lep.reporting.tables.paper_comparison import compare_with_paper
from lep.results.report import ReportResult


def run(settings: ReportSettings, out: Path) -> ReportResult:
    """Write `index.html`, which needs no other file and no network."""
    run_data = load_run_data(settings.evaluation)
    comparisons = compare_with_paper(run_data.evaluation.benchmark, settings.paper_rows or {})
    page = render_page(run_data, title=settings.title, paper_rows=settings.paper_rows, language=settings.language)
    (out / "index.html").write_text(page, encoding="utf-8")
    return ReportResult(page_bytes=len(page.encode()), paper_comparisons=comparisons)
