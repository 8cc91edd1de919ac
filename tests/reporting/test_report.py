"""The stage `report` and what the terminal prints of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from lep.cli.main import main
from lep.cli.summaries import print_stage_summary
from lep.io.artifact import read_manifest
from lep.registry import STAGES, parse_stage_result
from lep.results.report import ReportResult

ROW = "LLaMa-3-8B-Instruct/Extended/Conversion"


def test_report_prints_our_scores_next_to_the_papers(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "page"
    assert main(["report", f"evaluation={run}", f"paper_rows={{conversion: {ROW}}}", f"out={out}"]) == 0
    output = capsys.readouterr().out
    for text in (f"Table 3: propagated models, 0-shot, {ROW}", "−0.006", "ROUGE is recall", "index.html"):
        assert text in output
    result = parse_stage_result(read_manifest(out).result, stage="report")
    assert isinstance(result, ReportResult)
    page = (out / "index.html").read_bytes()
    assert result.paper_comparisons[0].row == ROW and ROW.encode() in page
    assert result.page_bytes == len(page)


def test_an_unknown_row_is_an_error_of_usage(run: Path, tmp_path: Path, capsys) -> None:
    assert main(["report", f"evaluation={run}", f"paper_rows={{conversion: {ROW}s}}", f"out={tmp_path / 'page'}"]) == 2
    assert f"did you mean '{ROW}'" in capsys.readouterr().err


def test_the_tables_of_an_evaluation_are_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_stage_summary(SimpleNamespace(stage=STAGES["evaluate"], out=run), True, Console(width=200))
    output = capsys.readouterr().out
    for text in (
        "Darumeru: score, 95 % interval, and against base",
        "+0.150 better",
        "Speed and memory, Russian, and against base",
        "Answers in another script than expected\n",
    ):
        assert text in output
