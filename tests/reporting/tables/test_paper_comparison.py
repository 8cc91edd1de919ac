"""Comparison with the paper: its tables are complete, and only comparable scores are compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from lep.errors import UsageError
from lep.registry import parse_stage_result
from lep.reporting.tables.paper_comparison import (
    compare_with_paper,
    format_pair_score,
    load_paper_rows,
)
from lep.results.evaluation import BENCHMARK_COLUMNS, MICRO_AVERAGE
from lep.results.report import PaperComparison, ReportResult
from lep.results.stages import parse_evaluation_result

from ..made_up import benchmark, evaluated

CONVERSION = "LLaMa-3-8B-Instruct/Extended/Conversion"
BASE = "LLaMa-3-8B/Extended"


def compare(rows: dict[str, str] | None = None, **settings: Any) -> tuple[PaperComparison, ...]:
    """Compare the made-up scores with a row of the paper."""
    results = parse_evaluation_result(evaluated() | {"benchmark": benchmark(**settings)}).benchmark
    return compare_with_paper(results, {"conversion": CONVERSION} if rows is None else rows)


def compared_columns(comparison: PaperComparison) -> list[str]:
    return [pair.column for pair in comparison.pairs if pair.difference is not None]


def test_every_row_of_the_paper_is_there_and_its_micro_average_is_the_mean_of_17_scores() -> None:
    weights = dict(zip(BENCHMARK_COLUMNS[1:], (3, 8, 2, 2, 2), strict=True))
    assert len(load_paper_rows()) == 58
    for row in load_paper_rows().values():
        mean = sum(weight * row.scores[group] for group, weight in weights.items()) / 17
        assert row.scores[MICRO_AVERAGE] == pytest.approx(mean, abs=1e-3)
    assert {row.table[5]: row.shots for row in load_paper_rows().values()} == {"1": 0, "2": 5, "3": 0, "4": 0}


def test_with_the_settings_of_the_paper_every_column_is_compared() -> None:
    (comparison,) = compare(variant="scripts")
    assert (comparison.model, comparison.row, comparison.remarks) == ("conversion", CONVERSION, ())
    assert compared_columns(comparison) == list(BENCHMARK_COLUMNS)
    mmlu = comparison.pairs[1]
    assert mmlu.difference == pytest.approx(0.55 - 0.556)
    assert mmlu.is_within_interval
    assert not comparison.pairs[-1].is_within_interval  # 0.921 is far above 0.55 ± 0.05


@pytest.mark.parametrize(
    ("settings", "rows", "remark", "columns"),
    [
        ({"variant": "paper"}, None, "ROUGE is recall", ["DaruMMLU", "DaruMERA"]),
        ({"limit": 1200}, None, "first 1,200 items", []),
        ({}, {"base": BASE}, "Ours is 0-shot, the paper's 5-shot", []),
        (
            {"missing": "use"},
            None,
            "* No score for use",
            ["DaruMMLU", "DaruSum", "DaruCopy-EN", "DaruCopy-RU"],
        ),
        ({"data": "tiny"}, None, "items are from tiny", list(BENCHMARK_COLUMNS)),
    ],
)
def test_a_difference_in_measurement_is_remarked_and_its_columns_are_not_compared(
    settings, rows, remark, columns
) -> None:
    (comparison,) = compare(rows, **({"variant": "scripts"} | settings))
    assert len(comparison.remarks) == 1
    assert remark in comparison.remarks[0]
    assert compared_columns(comparison) == columns


def test_an_average_that_lacks_a_task_has_a_star() -> None:
    (comparison,) = compare(variant="scripts", missing="use")
    assert [format_pair_score(pair) for pair in comparison.pairs] == ["–", "0.550", "0.550*", "0.550", "0.550", "0.550"]


def test_without_a_chat_template_nothing_is_compared() -> None:
    scores = benchmark(variant="scripts")
    scores["models"]["conversion"]["chat_template"] = False
    (comparison,) = compare_with_paper(
        parse_evaluation_result(evaluated() | {"benchmark": scores}).benchmark, {"conversion": CONVERSION}
    )
    assert compared_columns(comparison) == []
    assert "Ours has no chat template" in comparison.remarks[0]


def test_a_model_named_like_a_row_is_always_compared_with_it() -> None:
    scores = benchmark()
    scores["models"]["LLaMa-3-8B-Instruct"] = scores["models"]["instruct"]
    results = parse_evaluation_result(evaluated() | {"benchmark": scores}).benchmark
    assert [comparison.row for comparison in compare_with_paper(results, {})] == ["LLaMa-3-8B-Instruct"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"conversoin": CONVERSION},
            r"report\.paper_rows: no model with scores is called .*; did you mean 'conver",
        ),
        ({"conversion": "LLaMa-3-8B-instruct/extended"}, r"report\.paper_rows\.conversion: .*did you mean 'LLaMa-3-8B"),
    ],
)
def test_unknown_names_are_errors_with_the_closest_matches(rows: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(rows)


def test_rows_without_a_benchmark_are_an_error_and_no_rows_are_none() -> None:
    assert compare_with_paper(None, {}) == ()
    with pytest.raises(UsageError, match=r"set evaluate\.benchmark"):
        compare_with_paper(None, {"conversion": CONVERSION})


def test_the_result_of_report_can_be_read_back_from_its_manifest() -> None:
    result = ReportResult(page_bytes=1, paper_comparisons=compare())
    assert parse_stage_result(asdict(result), stage="report") == result
