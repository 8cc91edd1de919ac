"""Tables of speed and memory: verdicts come from paired ratios; what has no interval has no verdict."""

from __future__ import annotations

from typing import Any

import pytest

from lep.reporting.tables.cells import classify_change
from lep.reporting.tables.efficiency import build_model_table, build_text_tables, describe_measurement, find_reference
from lep.results.efficiency import EfficiencyResults
from lep.results.stages import parse_evaluation_result
from lep.results.statistics import Difference, Ratio

from ..made_up import NAMES, efficiency, evaluated


def parse(results: dict[str, Any]) -> EfficiencyResults:
    efficiency_results = parse_evaluation_result(evaluated() | {"efficiency": results}).efficiency
    assert efficiency_results
    return efficiency_results


def test_there_is_a_table_for_each_text_the_measured_one_first() -> None:
    results = parse(efficiency())
    russian, english = build_text_tables(results)
    assert (find_reference(results), russian.title, english.title) == ("base", "Russian", "English")
    assert [row.name for row in russian.rows] == list(NAMES)
    base, adapted, instruct, *_ = ([str(cell).replace("\u00a0", " ") for cell in row.cells] for row in russian.rows)
    assert base == ["1.31 (1.24–1.38)", "2.36 (2.24–2.48)", "1,048 (996–1,100)", "249 (236–261)", "18 MB", "10,732"]
    assert adapted[2:] == [
        "2,096 (1,991–2,201)\n2.00 × better",
        "498 (473–523)\n2.00 × better",
        "9 MB\n0.50 ×",
        "21,463\n2.00 ×",
    ]
    assert instruct[3] == "249 (236–261)\n1.00 × noise"


def test_what_does_not_depend_on_the_text() -> None:
    weights, context, prefill, _ = build_model_table(parse(efficiency())).rows[1].cells
    assert (weights.value, weights.change, weights.verdict) == ("270 MB", "1.04\u00a0×", "")
    assert (context.value, context.interval) == ("8,192", "window of 4,096")
    assert (prefill.value, prefill.verdict) == ("800", "noise")


def test_a_text_that_a_model_was_not_measured_on_is_a_row_of_dashes() -> None:
    results = efficiency()
    del results["models"]["swap"]["texts"]["en"]
    assert {cell.value for cell in build_text_tables(parse(results))[1].rows[3].cells} == {"–"}


def test_the_protocol_is_described() -> None:
    description = describe_measurement(parse(efficiency()))
    assert "on cpu, in turns with the reference (6 rounds, batch size 8, 256 prompt tokens" in description


@pytest.mark.parametrize(
    ("change", "higher_is_better", "verdict"),
    [
        (Ratio(1.2, (1.1, 1.3)), True, "better"),
        (Ratio(1.2, (0.9, 1.5)), True, "noise"),
        (Ratio(0.8, (0.7, 0.9)), True, "worse"),
        (Ratio(0.8), True, ""),
        (Difference(0.2, (0.1, 0.3)), False, "worse"),
        (Difference(-0.2, (-0.3, -0.1)), False, "better"),
        (Difference(0.0, (0.0, 0.0)), False, "noise"),
    ],
)
def test_a_verdict_is_by_the_interval(change: Difference | Ratio, higher_is_better: bool, verdict: str) -> None:
    assert classify_change(change, higher_is_better=higher_is_better) == verdict
