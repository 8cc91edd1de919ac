"""The room and its words on the terminal: what the page tells is in the manifest and is printed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from lep.cli.console import summary
from lep.cli.main import main
from lep.io.artifact import read_manifest

ROW = "LLaMa-3-8B-Instruct/Extended/Conversion"


def test_report_prints_our_scores_beside_the_papers(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "page"
    assert main(["report", f"evaluation={run}", f"paper={{conversion: {ROW}}}", f"out={out}"]) == 0
    told = capsys.readouterr().out
    for words in (f"Table 3: propagated models, 0-shot, {ROW}", "−0.006", "ROUGE is recall", "index.html"):
        assert words in told
    assert read_manifest(out).numbers["paper"][0]["row"] == ROW
    assert ROW in (out / "index.html").read_text()


def test_a_row_that_is_not_there_is_an_error_of_usage(run: Path, tmp_path: Path, capsys) -> None:
    assert main(["report", f"evaluation={run}", f"paper={{conversion: {ROW}s}}", f"out={tmp_path / 'page'}"]) == 2
    assert f"did you mean '{ROW}'" in capsys.readouterr().err


def test_an_evaluation_is_told_in_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary(SimpleNamespace(room="evaluate", out=run), True, Console(width=200))
    told = capsys.readouterr().out
    for words in (
        "Darumeru: score, 95 % interval, and against base",
        "+0.150 better",
        "Speed and memory, Russian, and against base",
        "Answers in another script than expected\n",
    ):
        assert words in told
