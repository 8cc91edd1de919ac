"""The benchmark's tables: every score with its interval, noise called noise, and nothing that failed left unsaid."""

from __future__ import annotations

from lep.reporting.tables.benchmark import Scores, scores
from lep.results.evaluation import COLUMNS
from lep.results.stages import parse_evaluation

from ..made_up import NAMES, benchmark, evaluated


def found(numbers) -> Scores:
    parsed = parse_evaluation(evaluated() | {"benchmark": numbers}).benchmark
    assert parsed
    return scores(parsed)


def test_models_by_groups_and_tasks_by_models() -> None:
    shown = found(benchmark())
    assert (shown.reference, shown.groups.columns, shown.remarks) == ("base", COLUMNS, ())
    assert [line.name for line in shown.groups.lines] == list(NAMES)
    assert len(shown.tasks.lines) == 17
    assert (shown.tasks.lines[3].name, shown.tasks.lines[3].note) == ("multiq", "DaruMERA, 120 items")
    assert str(shown.groups.lines[0].cells[0]) == "0.400 (0.350–0.450)"
    assert str(shown.groups.lines[1].cells[0]) == "0.430 (0.380–0.480)\n+0.030 noise"
    assert str(shown.groups.lines[-1].cells[0]) == "0.550 (0.500–0.600)\n+0.150 better"
    assert shown.tasks.lines[3].cells == tuple(line.cells[2] for line in shown.groups.lines)


def test_worse_is_worse_only_beyond_the_noise() -> None:
    numbers = benchmark()
    change = numbers["differences"]["swap"]["groups"]
    change["DaruSum"] = {"difference": -0.2, "interval": [-0.3, -0.1]}
    change["DaruMERA"] = {"difference": -0.2, "interval": [-0.4, 0.0]}
    _, _, mera, daru_sum, *_ = found(numbers).groups.lines[3].cells
    assert (daru_sum.change, daru_sum.verdict, mera.verdict) == ("−0.200", "worse", "noise")


def test_a_task_without_a_score_is_told_where_it_is_missing() -> None:
    shown = found(benchmark(missing="use"))
    assert shown.groups.columns == COLUMNS[1:]
    assert [cell.value[-1] for cell in shown.groups.lines[0].cells] == list("0*000")
    assert "no score of use; averages are of the others" in shown.remarks[0]
    assert shown.remarks[1] == f"{', '.join(NAMES)}: no score of use: no rows"
    assert {cell.value for line in shown.tasks.lines if line.name == "use" for cell in line.cells} == {"no score"}


def test_a_difference_over_other_tasks_than_the_averages_is_told() -> None:
    whole, less = benchmark(), benchmark(missing="use")
    assert not found(whole).remarks
    whole["models"]["swap"] = less["models"]["swap"]
    assert found(whole).remarks[-1].startswith("Not all models have a score of the same tasks")


def test_settings_that_make_another_benchmark_are_told() -> None:
    remarks = " ".join(found(benchmark(limit=20, variant="scripts", data="tiny")).remarks)
    assert "first 20 items" in remarks
    assert "“scripts”" in remarks
    assert "read from tiny" in remarks
