"""Tables of the benchmark: scores with intervals, verdicts, and remarks on what is missing."""

from __future__ import annotations

from typing import Any

from lep.reporting.tables.benchmark import BenchmarkTables, build_benchmark_tables
from lep.results.evaluation import BENCHMARK_COLUMNS
from lep.results.stages import parse_evaluation_result

from ..made_up import NAMES, benchmark, evaluated


def build(scores: dict[str, Any]) -> BenchmarkTables:
    results = parse_evaluation_result(evaluated() | {"benchmark": scores}).benchmark
    assert results
    return build_benchmark_tables(results)


def test_models_by_groups_and_tasks_by_models() -> None:
    tables = build(benchmark())
    assert (tables.reference, tables.group_table.columns, tables.remarks) == ("base", BENCHMARK_COLUMNS, ())
    assert [row.name for row in tables.group_table.rows] == list(NAMES)
    assert len(tables.task_table.rows) == 17
    assert (tables.task_table.rows[3].name, tables.task_table.rows[3].note) == ("multiq", "DaruMERA, 120 items")
    assert str(tables.group_table.rows[0].cells[0]) == "0.400 (0.350–0.450)"
    assert str(tables.group_table.rows[1].cells[0]) == "0.430 (0.380–0.480)\n+0.030 noise"
    assert str(tables.group_table.rows[-1].cells[0]) == "0.550 (0.500–0.600)\n+0.150 better"
    assert tables.task_table.rows[3].cells == tuple(row.cells[2] for row in tables.group_table.rows)


def test_worse_is_worse_only_beyond_the_noise() -> None:
    scores = benchmark()
    change = scores["differences"]["swap"]["groups"]
    change["DaruSum"] = {"difference": -0.2, "interval": [-0.3, -0.1]}
    change["DaruMERA"] = {"difference": -0.2, "interval": [-0.4, 0.0]}
    _, _, mera, daru_sum, *_ = build(scores).group_table.rows[3].cells
    assert (daru_sum.change, daru_sum.verdict, mera.verdict) == ("−0.200", "worse", "noise")


def test_a_task_without_a_score_is_remarked_where_it_is_missing() -> None:
    tables = build(benchmark(missing="use"))
    assert tables.group_table.columns == BENCHMARK_COLUMNS[1:]
    assert [cell.value[-1] for cell in tables.group_table.rows[0].cells] == list("0*000")
    assert "no score for use; averages are over the other tasks" in tables.remarks[0]
    assert tables.remarks[1] == f"{', '.join(NAMES)}: no score for use: no rows"
    assert {cell.value for row in tables.task_table.rows if row.name == "use" for cell in row.cells} == {"no score"}


def test_a_difference_over_other_tasks_than_the_averages_is_remarked() -> None:
    complete, incomplete = benchmark(), benchmark(missing="use")
    assert not build(complete).remarks
    complete["models"]["swap"] = incomplete["models"]["swap"]
    assert build(complete).remarks[-1].startswith("Not all models have scores for the same tasks")


def test_settings_that_change_the_benchmark_are_remarked() -> None:
    remarks = " ".join(build(benchmark(limit=20, variant="scripts", data="tiny")).remarks)
    assert "first 20 items" in remarks
    assert "“scripts”" in remarks
    assert "read from tiny" in remarks
